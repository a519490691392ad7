// `octet completion`: shell completion for bash and zsh, made from the options themselves.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cctype>
#include <memory>
#include <sstream>

#include "src/cli/cli.h"
#include "src/cli/flags.h"

namespace octet::cli {
namespace {

// What an option takes, as its type says it: the words of a set "{a,b}", of alternatives "a|b|FILE"
// or of "only a"; words in capitals stand for something else, which may be a file.
struct Values {
  std::vector<std::string> words;
  bool files = true;
};

Values values_of(const std::string& type) {
  Values v;
  const auto take = [&](const std::string& list, char between) {
    v.files = false;
    std::istringstream words(list);
    for (std::string word; std::getline(words, word, between);)
      if (std::any_of(word.begin(), word.end(), [](unsigned char c) { return std::islower(c); }) ||
          std::isdigit(static_cast<unsigned char>(word[0])))
        v.words.push_back(word);
      else
        v.files = true;
  };
  const std::string first = type.substr(0, type.find(':'));
  if (const size_t set = type.find(":{"); set != std::string::npos && type.ends_with("}"))
    take(type.substr(set + 2, type.size() - set - 3), ',');
  else if (first.find('|') != std::string::npos)
    take(first, '|');
  else if (const size_t only = type.find(":only "); only != std::string::npos)
    take(type.substr(only + 6), ',');
  return v;
}

// The cases of the script, by the verbs typed so far (" quantize quant"): which verbs there are,
// what may follow them, and which values options take.
struct Cases {
  std::string verbs, options, values;
};

void add_cases(const Verb& verb, const std::string& path, Cases& cases) {
  std::string next, dashes, underscores;
  for (const Verb& under : verb.verbs()) {
    next += under.name() + " ";
    const std::string below = path + " " + under.name();
    cases.verbs += fmt::format("{}\"{}\"", cases.verbs.empty() ? "" : "|", below);
    add_cases(under, below, cases);
  }
  for (const FlagNames& flag : verb.flags()) {
    const Values values = values_of(flag.type);
    if (flag.positional && flag.long_names.empty())
      next += fmt::format("{} ", fmt::join(values.words, " "));
    std::string names;
    for (const std::string& name : flag.long_names) {
      dashes += "--" + name + " ";
      names += fmt::format("{}\"{} --{}\"", names.empty() ? "" : "|", path, name);
      std::string other = name;
      std::replace(other.begin(), other.end(), '-', '_');
      if (other != name) underscores += "--" + other + " ";
    }
    if (!names.empty() && !values.words.empty())
      cases.values += fmt::format("    {}) values=\"{}\" files={} ;;\n", names,
                                  fmt::join(values.words, " "), values.files ? "yes" : "");
  }
  cases.options += fmt::format("    \"{}\") next=\"{}\" options=\"{}\" underscores=\"{}\" ;;\n",
                               path, next, dashes, underscores);
}

constexpr const char* kScript = R"(_octet() {
  local word=${COMP_WORDS[COMP_CWORD]} before=${COMP_WORDS[COMP_CWORD-1]}
  local verbs= i=1 next= options= underscores= values= files=
  while [ "$i" -lt "$COMP_CWORD" ]; do
    case "$verbs ${COMP_WORDS[$i]}" in
      @VERBS@) verbs="$verbs ${COMP_WORDS[$i]}" ;;
      *) break ;;
    esac
    i=$((i + 1))
  done
  case $verbs in
@OPTIONS@  esac
  # The shell makes three words of --option=value.
  if [ "$word" = "=" ]; then
    word=
  elif [ "$before" = "=" ]; then
    before=${COMP_WORDS[COMP_CWORD-2]}
  fi
  # Names may be spelled with _ or -.
  case "$verbs ${before//_/-}" in
@VALUES@  esac
  case $word in
    --*_*) options=$underscores ;;
  esac
  if [ -n "$values" ]; then
    COMPREPLY=($(compgen -W "$values" -- "$word"))
    [ -n "$files" ] && COMPREPLY+=($(compgen -f -- "$word"))
  elif [ "${word#-}" != "$word" ]; then
    COMPREPLY=($(compgen -W "$options" -- "$word"))
  elif [ "$i" -eq "$COMP_CWORD" ]; then
    COMPREPLY=($(compgen -W "$next" -- "$word"))
    [ -n "$verbs" ] && COMPREPLY+=($(compgen -f -- "$word"))
  else
    COMPREPLY=($(compgen -f -- "$word"))
  fi
  return 0
}
complete -o filenames -F _octet octet
)";

std::string bash_script(const Verb& program) {
  Cases cases;
  add_cases(program, "", cases);
  std::string script = kScript;
  for (const auto& [mark, text] :
       {std::pair("@VERBS@", cases.verbs), std::pair("@OPTIONS@", cases.options),
        std::pair("@VALUES@", cases.values)})
    script.replace(script.find(mark), std::string(mark).size(), text);
  return script;
}

}  // namespace

void add_completion(Verb program) {
  const Verb verb = program.verb("completion", "prints a completion script for a shell");
  auto shell = std::make_shared<std::string>();
  verb.text("shell", *shell, "bash or zsh").required().one_of({"bash", "zsh"});
  verb.footer("bash: source <(octet completion bash)    zsh: source <(octet completion zsh)");
  verb.run([program, shell] {
    if (*shell == "zsh") fmt::print("autoload -U +X bashcompinit && bashcompinit\n");
    fmt::print("{}", bash_script(program));
  });
}

}  // namespace octet::cli
