// How `octet quantize` runs, whichever command line it was given.
#include <fmt/format.h>

#include "src/base/error.h"
#include "src/base/output_folder.h"
#include "src/checkpoint/model_folder.h"
#include "src/checkpoint/side_files.h"
#include "src/cli/quantize.h"
#include "src/cli/ranks.h"
#include "src/eval/report_page.h"
#include "src/quant/output/report_file.h"

namespace octet::cli {

void RunFlags::add_to(const Verb& verb) {
  verb.toggle("--overwrite", overwrite,
              "replace the folder if it holds a model, and what an interrupted run left");
  verb.toggle("--resume", resume,
              "go on at the last finished layer of an interrupted run of the same command; begin "
              "where there is none");
  verb.text("--memory-limit", memory_limit,
            "16G, 512MiB, 1.5GB, ... for a rank: activations beyond it go into a file beside "
            "the output; by itself 90 % of what is free, shared by the ranks of a host")
      .metavar("SIZE");
  verb.toggle("--quiet", quiet, "no progress, no table");
  add_ranks_flag(verb, ranks);
}

RunSettings RunFlags::settings() const {
  return {overwrite, resume, memory_limit.empty() ? 0 : parse_bytes(memory_limit, "--memory-limit"),
          quiet};
}

void RunFlags::quantize(const std::string& model, const std::string& target,
                        const CalibrationData& data, const QuantizeOptions& options,
                        const Finish& finish) const {
  on_ranks(ranks, [&](Communicator& all) {
    QuantizeOptions own = options;
    if (all.rank() != 0) own.run.quiet = true;
    const QuantizeSummary summary = octet::quantize(model, target, data, own, finish, &all);
    if (!own.run.quiet) print_summary(summary, target);
    if (all.rank() == 0) warn_of_cut_groups(summary);
  });
}

void check_device(const char* flag, const std::string& s) {
  if (s == "cpu") return;
  if (s.starts_with("npu"))
    throw Error("there is no NPU here: this program computes on CPUs", ErrorKind::kUsage)
        .field(flag)
        .expected("cpu")
        .found(s)
        .remedy(fmt::format("use {} cpu; the checkpoint is the same and loads on NPUs", flag));
  throw Error("unknown device", ErrorKind::kUsage).field(flag).expected("cpu").found(s);
}

void note_remote_code(bool trusted) {
  if (trusted) notice("--trust_remote_code has no effect: no code of a model folder is ever run");
}

void settle_by_folders(const std::string& model, const std::string& target,
                       QuantizeOptions& options) {
  refuse_overlap(model, target);
  OutputFolder::expect_usable(target, options.run.overwrite);
  const ModelFolder folder = open_float_model(model);
  refuse_broken_side_files(folder.path());
  warn_of(folder);
  settle(options, folder.config().dtype);
  for (const std::string& note : options.notes) notice(note);
}

void write_report_page(const fs::path& folder, const ordered_json& report) {
  write_text(folder / kReportPage, report_page(report, kReportFile));
}

}  // namespace octet::cli
