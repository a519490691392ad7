// `octet completion`: shell completion for bash and zsh, made from the options themselves.
#include <fmt/format.h>

#include <memory>

#include "src/cli/cli.h"

namespace octet::cli {
namespace {

std::string bash_script(const CLI::App& app) {
  std::string verbs, cases;
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; })) {
    verbs += sub->get_name() + " ";
    std::string options;
    for (const CLI::Option* option : sub->get_options())
      for (const std::string& name : option->get_lnames()) options += "--" + name + " ";
    cases += fmt::format("    {}) options=\"{}\" ;;\n", sub->get_name(), options);
  }
  return fmt::format(
      "_octet() {{\n"
      "  local word=${{COMP_WORDS[COMP_CWORD]}} options=\n"
      "  if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
      "    COMPREPLY=($(compgen -W \"{}\" -- \"$word\"))\n"
      "    return\n"
      "  fi\n"
      "  case ${{COMP_WORDS[1]}} in\n{}  esac\n"
      "  case $word in\n"
      "    -*) COMPREPLY=($(compgen -W \"$options\" -- \"$word\")) ;;\n"
      "    *) COMPREPLY=($(compgen -f -- \"$word\")) ;;\n"
      "  esac\n"
      "}}\n"
      "complete -o filenames -F _octet octet\n",
      verbs, cases);
}

}  // namespace

void add_completion(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("completion", "prints a completion script for a shell");
  auto shell = std::make_shared<std::string>();
  sub->add_option("shell", *shell, "bash or zsh")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh"}));
  sub->footer("bash: source <(octet completion bash)    zsh: source <(octet completion zsh)");
  sub->callback([&app, shell] {
    if (*shell == "zsh") fmt::print("autoload -U +X bashcompinit && bashcompinit\n");
    fmt::print("{}", bash_script(app));
  });
}

}  // namespace octet::cli
