// How `octet quantize` runs, whichever command line it was given.
#include "src/cli/quantize.h"
#include "src/cli/ranks.h"

namespace octet::cli {

void RunFlags::add_to(CLI::App* app) {
  app->add_flag("--overwrite", overwrite,
                "replace the folder if it holds a model, and what an interrupted run left");
  app->add_flag("--resume", resume,
                "go on at the last finished layer of an interrupted run of the same command; begin "
                "where there is none");
  app->add_option("--memory-limit", memory_limit,
                  "16G, 512MiB, 1.5GB, ... for a rank: activations beyond it go into a file beside "
                  "the output; by itself 90 % of what is free, shared by the ranks of a host")
      ->type_name("SIZE");
  app->add_flag("--quiet", quiet, "no progress, no table");
  add_ranks_flag(app, ranks);
}

void RunFlags::apply(QuantizeOptions& options) const {
  options.overwrite = overwrite;
  options.resume = resume;
  options.quiet = quiet;
  if (!memory_limit.empty()) options.memory_limit = parse_bytes(memory_limit, "--memory-limit");
}

void RunFlags::quantize(const std::string& model, const std::string& target,
                        const CalibrationData& data, const QuantizeOptions& options,
                        const Finish& finish) const {
  on_ranks(ranks, [&](Communicator& all) {
    QuantizeOptions own = options;
    if (all.rank() != 0) own.quiet = true;
    const QuantizeSummary summary = octet::quantize(model, target, data, own, finish, &all);
    if (!own.quiet) report(summary, target);
  });
}

}  // namespace octet::cli
