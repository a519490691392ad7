// The command line: every verb has a file <verb>.cc that adds it to the program (quantize, serve
// and bench have further files); and what verbs share.
#pragma once

#include <string>
#include <vector>

#include "src/base/json.h"

namespace octet {
class ModelFolder;
}

namespace octet::cli {

class Verb;  // flags.h

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
// Throws Error when something that was printed to stdout could not be written. Printing is buffered
// by the C library, so that a full disk may show only here.
void expect_written();

// Each adds its verb to the program.
void add_quantize(Verb program);
void add_serve(Verb program);
void add_chat(Verb program);
void add_generate(Verb program);
void add_eval(Verb program);
void add_report(Verb program);
void add_compare(Verb program);
void add_inspect(Verb program);
void add_check(Verb program);
void add_convert(Verb program);
void add_bench(Verb program);
void add_plan(Verb program);
void add_completion(Verb program);

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
// Says what is remarkable about a model folder that a verb has opened (ModelFolder::remarks).
void warn_of(const ModelFolder& folder);

// A table for people: columns padded to the widest cell; `right` says which are right-aligned.
std::string format_table(const std::vector<std::vector<std::string>>& rows,
                         const std::vector<bool>& right);

}  // namespace octet::cli
