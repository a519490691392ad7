#include "src/cli/spelling.h"

#include <algorithm>
#include <map>
#include <set>
#include <string_view>

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

std::vector<std::string> names_of(const CLI::Option& option) {
  std::vector<std::string> names;
  for (const std::string& name : option.get_lnames()) names.push_back("--" + name);
  for (const std::string& name : option.get_snames()) names.push_back("-" + name);
  return names;
}

// The verb that `args` ask for: quantize, and below it quant.
const CLI::App* verb_of(const CLI::App& app, const std::vector<std::string>& args, size_t at = 0) {
  if (at < args.size())
    for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; }))
      if (sub->get_name() == args[at]) return verb_of(*sub, args, at + 1);
  return &app;
}

}  // namespace

void remember_spelling(const CLI::App& app, const std::vector<std::string>& raw,
                       const std::vector<std::string>& args) {
  const auto options = verb_of(app, args)->get_options();
  for (const CLI::Option* option : options)
    for (const std::string& name : names_of(*option)) known().insert(name);
  for (size_t i = 0; i < args.size() && args[i] != "--"; ++i) {
    if (!args[i].starts_with("-")) continue;
    // "-O3" holds its value as "-tp2" does, which is one of the long names in `args`.
    const bool is_long = args[i].starts_with("--");
    const std::string name = is_long ? option_name(args[i]) : args[i].substr(0, 2);
    const std::string typed = raw[i].starts_with("--") ? option_name(raw[i])
                              : is_long ? raw[i].substr(0, raw[i].find_first_of("=0123456789"))
                                        : name;
    spellings()[name] = typed;
    for (const CLI::Option* option : options) {
      const std::vector<std::string> names = names_of(*option);
      if (std::find(names.begin(), names.end(), name) == names.end()) continue;
      for (const std::string& other : names) spellings()[other] = typed;
    }
  }
}

std::string verb_words(const CLI::App& app, const std::vector<std::string>& args) {
  std::string words;
  for (const CLI::App* verb = verb_of(app, args); verb != &app; verb = verb->get_parent())
    words = verb->get_name() + (words.empty() ? "" : " ") + words;
  return words;
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
