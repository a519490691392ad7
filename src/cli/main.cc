// The program `octet`: parses the command line and turns errors into one clear line and an exit
// code (2 for usage, 1 for failure).
#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <new>

#include "src/base/error.h"
#include "src/base/progress.h"
#include "src/cli/cli.h"
#include "src/cli/ranks.h"
#include "src/cli/spelling.h"
#include "src/dist/launch.h"
#include "src/dist/mpi_job.h"

namespace {

int run(int argc, char** argv) {
  using namespace octet;
  CLI::App app{"Octet quantizes LLaMA and Qwen checkpoints to W8A8 and serves them."};
  app.name("octet");
  app.set_version_flag("--version,-V", fmt::format("octet {}", cli::kVersion));
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  app.require_subcommand(1);
  app.footer("`octet VERB --help` explains a verb. Names of options may be spelled with _ or -.");
  if (in_job() || MpiJob::started_as() > 0) cli::silence_notices();  // another process gives them
  cli::add_quantize(app);
  cli::add_serve(app);
  cli::add_chat(app);
  cli::add_generate(app);
  cli::add_eval(app);
  cli::add_report(app);
  cli::add_compare(app);
  cli::add_inspect(app);
  cli::add_check(app);
  cli::add_convert(app);
  cli::add_bench(app);
  cli::add_plan(app);
  cli::add_completion(app);
  if (argc == 1) {
    fmt::print("{}", app.help());
    return 2;
  }
  std::vector<std::string> args = cli::fold_names(argc, argv);
  const auto verbs = app.get_subcommands([](const CLI::App*) { return true; });
  if (!args[0].starts_with("-") &&
      std::none_of(verbs.begin(), verbs.end(),
                   [&](const CLI::App* verb) { return verb->get_name() == args[0]; }))
    throw usage_error(fmt::format("unknown verb {} (octet --help lists them)", args[0]));
  cli::expect_numbers(app);
  const std::string verb = cli::verb_words(app, args);
  try {
    const std::vector<std::string> raw(argv + 1, argv + argc);
    cli::remember_spelling(app, raw, args);  // for what expanding may say
    cli::expand_serve_names(app, args);
    cli::remember_spelling(app, raw, args);
    std::reverse(args.begin(), args.end());  // CLI11 takes a vector from its end
    app.parse(args);
    return 0;
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == static_cast<int>(CLI::ExitCodes::Success)) return app.exit(e);  // help
    throw usage_error(
        fmt::format("{} (octet {} --help explains)", e.what(), verb.empty() ? "VERB" : verb));
  }
}

}  // namespace

int main(int argc, char** argv) {
  try {
    const int code = run(argc, argv);
    // What a full disk swallowed shows only now.
    if (std::fflush(stdout) != 0 || std::ferror(stdout) != 0)
      throw octet::Error(std::string("cannot write the output: ") + std::strerror(errno));
    return code;
  } catch (...) {
    return octet::cli::explain_once(octet::MpiJob::started_as());
  }
}
