// The command line. Every verb has a file <verb>.cc that adds its subcommand to the program; quantize,
// serve and bench have further files.
#pragma once

#include <CLI/CLI.hpp>
#include <string>
#include <vector>

#include "src/base/json.h"

namespace octet::cli {

// The program's version, as `octet --version` and the server's /version show it.
inline constexpr const char* kVersion = OCTET_VERSION;

// Thrown by a verb to end with an exit code, when it has said all there is to say.
struct Exit {
  int code;
};

// The exit code of what SIGINT or SIGTERM ended, as shells report it.
inline constexpr int kInterrupted = 130;
// Tells the user what is being handled (in a catch block), in one line; the exit code for it.
// `who`: put before an error.
int explain_exception(const std::string& who = "");

// Each adds its verb to the program.
void add_quantize(CLI::App& app);
void add_serve(CLI::App& app);
void add_chat(CLI::App& app);
void add_generate(CLI::App& app);
void add_eval(CLI::App& app);
void add_report(CLI::App& app);
void add_compare(CLI::App& app);
void add_inspect(CLI::App& app);
void add_check(CLI::App& app);
void add_convert(CLI::App& app);
void add_bench(CLI::App& app);
void add_plan(CLI::App& app);
void add_completion(CLI::App& app);

// Arguments with `_` in the names of long options turned into `-`: `--model_path=a_b` becomes
// `--model-path=a_b`; `-tp 2` becomes `--tp 2`. Words after `--` are left alone.
std::vector<std::string> fold_names(int argc, const char* const* argv);
// vLLM's other spellings of serve's options, written out in `args` (already folded): beginnings
// that fit one option only, and -asc. kUsage Error naming the candidates when several fit.
void expand_serve_names(const CLI::App& app, std::vector<std::string>& args);

// Lengths and sizes, as vLLM writes them: 4096, 25.6k (thousands), 32K (1024), 2M, 1G.
size_t parse_human_number(const std::string& text, const char* flag);
// Sizes of memory: the same, and with a unit in any case of letters: 1.5GB, 100MiB.
uint64_t parse_bytes(const std::string& text, const char* flag);

// The JSON that an option holds, of this type (array or object): what is wrong with it is wrong
// usage.
json flag_json(const std::string& text, const std::string& flag, json::value_t type);

// A one-line remark on stderr, and one about what may well be wrong.
void notice(const std::string& text);
// From now on they are left out.
void silence_notices();
void warning(const std::string& text);

// A table for people: columns padded to the widest cell; `right` says which are right-aligned.
std::string format_table(const std::vector<std::vector<std::string>>& rows,
                         const std::vector<bool>& right);

// From now on every option that takes a number says so when it is given something else (of an
// unsigned one CLI11 itself would make a huge number of -1). To be called when all are added.
void expect_numbers(CLI::App& app);

// Adds an option that takes the words True or False (msModelSlim's way), in any case.
CLI::Option* add_bool(CLI::App* app, const std::string& name, bool& value,
                      const std::string& description);

}  // namespace octet::cli
