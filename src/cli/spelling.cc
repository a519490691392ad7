#include "src/cli/spelling.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <map>
#include <set>
#include <string_view>

#include "src/base/error.h"

namespace octet::cli {
namespace {

// Each name of an option that was typed (with dashes, `-` in place of `_`), and the word that was
// typed for it. Belongs to the messages, as a logger's state; set before any message.
std::map<std::string, std::string>& spellings() {
  static std::map<std::string, std::string> typed;
  return typed;
}

// The names of all options of the verb that was typed.
std::set<std::string>& known() {
  static std::set<std::string> names;
  return names;
}

// "--model_path=x" -> "--model_path", and its `_` turned into `-`: "--model-path".
std::string option_name(const std::string& word) { return word.substr(0, word.find('=')); }
std::string folded(std::string name) {
  if (name.starts_with("--")) std::replace(name.begin() + 2, name.end(), '_', '-');
  return name;
}

std::vector<std::string> names_of(const FlagNames& flag) {
  std::vector<std::string> names;
  for (const std::string& name : flag.long_names) names.push_back("--" + name);
  for (const std::string& name : flag.short_names) names.push_back("-" + name);
  return names;
}

}  // namespace

std::vector<std::string> fold_names(int argc, const char* const* argv) {
  std::vector<std::string> args;
  bool literal = false;
  for (int i = 1; i < argc; ++i) {
    std::string word = argv[i];
    // vLLM's two-letter short names, which are long ones here: -tp 2, -tp=2, -tp2.
    for (const char* name : {"-tp", "-pp", "-dp"})
      if (const std::string value = word.size() < 3 ? "" : word.substr(3);
          !literal && word.starts_with(name) &&
          value.find_first_not_of(value.starts_with("=") ? "=0123456789" : "0123456789") ==
              std::string::npos) {
        word = "-" + word.substr(0, 3);
        if (!value.empty()) word += (value[0] == '=' ? "" : "=") + value;
        break;
      }
    if (!literal && word.starts_with("--")) {
      literal = word == "--";
      const size_t end = std::min(word.find('='), word.size());
      std::replace(word.begin() + 2, word.begin() + static_cast<ptrdiff_t>(end), '_', '-');
    }
    args.push_back(std::move(word));
  }
  return args;
}

void expand_serve_names(const Verb& program, std::vector<std::string>& args) {
  if (args.empty() || args[0] != "serve") return;
  const std::vector<FlagNames> flags = find_verb(program, {"serve"}).verb.flags();
  for (std::string& word : args) {
    if (word == "--") return;
    if (word == "-asc" || word.starts_with("-asc=")) word.replace(0, 4, "--api-server-count");
    if (!word.starts_with("--")) continue;
    const size_t end = std::min(word.find('='), word.size());
    const std::string name = word.substr(2, end - 2);
    std::vector<std::string> found;  // the first fitting name of each flag
    bool exact = false;
    for (const FlagNames& flag : flags) {
      const auto& names = flag.long_names;
      const auto fits = [&](const std::string& full) { return full.starts_with(name); };
      const auto it = std::find_if(names.begin(), names.end(), fits);
      if (it != names.end()) found.push_back("--" + *it);
      exact |= std::find(names.begin(), names.end(), name) != names.end();
    }
    if (exact || found.empty()) continue;
    if (found.size() > 1)
      throw usage_error(fmt::format("--{} could be {}", name, fmt::join(found, ", ")));
    word.replace(0, end, found[0]);
  }
}

void remember_spelling(const Verb& program, const std::vector<std::string>& raw,
                       const std::vector<std::string>& args) {
  const std::vector<FlagNames> flags = find_verb(program, args).verb.flags();
  for (const FlagNames& flag : flags)
    for (const std::string& name : names_of(flag)) known().insert(name);
  for (size_t i = 0; i < args.size() && args[i] != "--"; ++i) {
    if (!args[i].starts_with("-")) continue;
    // "-O3" holds its value as "-tp2" does, which is one of the long names in `args`.
    const bool is_long = args[i].starts_with("--");
    const std::string name = is_long ? option_name(args[i]) : args[i].substr(0, 2);
    const std::string typed = raw[i].starts_with("--") ? option_name(raw[i])
                              : is_long ? raw[i].substr(0, raw[i].find_first_of("=0123456789"))
                                        : name;
    spellings()[name] = typed;
    for (const FlagNames& flag : flags) {
      const std::vector<std::string> names = names_of(flag);
      if (std::find(names.begin(), names.end(), name) == names.end()) continue;
      for (const std::string& other : names) spellings()[other] = typed;
    }
  }
}

std::string as_typed(const std::string& message) {
  constexpr const char* kOfNames =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.";
  struct Piece {
    std::string text;
    bool untyped;  // an option that was not typed
  };
  std::vector<Piece> pieces;
  char joint = 0;  // what joins words in the first typed name that has more than one
  for (size_t at = 0, begin = 0; at <= message.size();) {
    const bool starts =
        at < message.size() && message[at] == '-' &&
        (at == 0 || std::string_view(" (,'\"`").find(message[at - 1]) != std::string_view::npos);
    if (starts || at == message.size())
      pieces.push_back({message.substr(begin, at - begin), /*untyped=*/false});
    if (at == message.size()) break;
    if (!starts) {
      ++at;
      continue;
    }
    std::string name = message.substr(at, message.find_first_not_of(kOfNames, at) - at);
    name.erase(name.find_last_not_of('.') + 1);  // the full stop of a sentence
    begin = at += name.size();
    const auto typed = spellings().find(folded(name));
    if (typed == spellings().end()) {
      pieces.push_back({name, known().contains(folded(name))});
      continue;
    }
    pieces.push_back({typed->second, /*untyped=*/false});
    if (const size_t inner = typed->second.find_first_of("-_", 2);
        joint == 0 && inner != std::string::npos)
      joint = typed->second[inner];
  }
  std::string out;
  for (Piece& piece : pieces) {
    if (piece.untyped && joint != 0)
      for (size_t i = 2; i < piece.text.size(); ++i)
        if (piece.text[i] == '-' || piece.text[i] == '_') piece.text[i] = joint;
    out += piece.text;
  }
  return out;
}

}  // namespace octet::cli
