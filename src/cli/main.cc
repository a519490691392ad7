// The program `octet`: parses the command line and turns errors into one clear line and an exit
// code (2 for usage, 1 for failure).
#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include "src/base/error.h"
#include "src/base/progress.h"
#include "src/cli/cli.h"
#include "src/cli/flags.h"
#include "src/cli/ranks.h"
#include "src/cli/spelling.h"
#include "src/dist/launch.h"
#include "src/dist/mpi_job.h"

namespace {

int run_command_line(int argc, char** argv) {
  using namespace octet;
  cli::Program program("octet",
                       "Octet quantizes LLaMA and Qwen checkpoints to W8A8 and serves them.",
                       fmt::format("octet {}", cli::kVersion));
  const cli::Verb top = program.top();
  top.needs_verb();
  top.footer("`octet VERB --help` explains a verb. Names of options may be spelled with _ or -.");
  if (in_job() || MpiJob::started_as() > 0) cli::silence_notices();  // another process gives them
  cli::add_quantize(top);
  cli::add_serve(top);
  cli::add_chat(top);
  cli::add_generate(top);
  cli::add_eval(top);
  cli::add_report(top);
  cli::add_compare(top);
  cli::add_inspect(top);
  cli::add_check(top);
  cli::add_convert(top);
  cli::add_bench(top);
  cli::add_plan(top);
  cli::add_completion(top);
  if (argc == 1) {
    fmt::print("{}", program.help());
    return 2;
  }
  std::vector<std::string> args = cli::fold_names(argc, argv);
  if (!args[0].starts_with("-") && cli::find_verb(top, args).words.empty())
    throw usage_error(fmt::format("unknown verb {} (octet --help lists them)", args[0]));
  const std::vector<std::string> raw(argv + 1, argv + argc);
  cli::remember_spelling(top, raw, args);  // for what expanding may say
  cli::expand_serve_names(top, args);
  cli::remember_spelling(top, raw, args);
  program.parse(std::move(args));
  return 0;
}

// The next file to be opened would get the number of a closed one, and text would be written into
// it. None of them can be written, so that what is printed in vain shows.
void fill_closed_descriptors() {
  for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; ++fd)
    if (::fcntl(fd, F_GETFD) < 0 && ::open("/dev/null", O_RDONLY) < 0) return;
}

}  // namespace

int main(int argc, char** argv) {
  fill_closed_descriptors();
  try {
    int code = 0;
    try {
      code = run_command_line(argc, argv);
    } catch (const octet::cli::Exit&) {  // also what a verb printed that ends so
      octet::cli::expect_written();
      throw;
    }
    octet::cli::expect_written();
    return code;
  } catch (...) {
    return octet::cli::explain_once(octet::MpiJob::started_as());
  }
}
