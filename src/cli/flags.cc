#include "src/cli/flags.h"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <map>
#include <utility>

#include "src/base/error.h"

namespace octet::cli {

struct VerbNode {
  CLI::App* app;                            // the parser's, which owns those of the verbs below
  std::unique_ptr<CLI::App> own = nullptr;  // of the program itself
  std::vector<std::unique_ptr<VerbNode>> below{};
  struct Companion {
    CLI::Option* flag;
    std::string other, why;
  };
  std::vector<Companion> companions{};
};

namespace {

template <typename T>
Flag add_option(VerbNode* verb, const std::string& name, T& target, const std::string& help) {
  return Flag(verb, verb->app->add_option(name, target, help));
}

// Says so when an option that takes a number is given something else (of an unsigned one CLI11
// itself would make a huge number of -1).
void expect_number(CLI::Option* option) {
  const std::string types = option->get_type_name(), type = types.substr(0, types.find(':'));
  const char* expected = type == "FLOAT"  ? "a number"
                         : type == "INT"  ? "a whole number"
                         : type == "UINT" ? "a whole number from 0 on"
                                          : nullptr;
  // A set says itself what is in it.
  if (expected == nullptr || types.ends_with("}")) return;
  // transform() puts it before the option's own checks.
  option->transform(CLI::Validator(
      [type, expected](std::string& word) {
        double real = 0;
        int64_t whole = 0;
        uint64_t from_zero = 0;
        const bool good =
            type == "FLOAT" ? CLI::detail::lexical_cast(word, real)
            : type == "INT" ? CLI::detail::lexical_cast(word, whole)
                            : !word.starts_with("-") && CLI::detail::lexical_cast(word, from_zero);
        return good ? std::string() : fmt::format("expected {}, found {}", expected, word);
      },
      ""));
}

void expect_numbers(CLI::App* app) {
  for (CLI::Option* option : app->get_options()) expect_number(option);
  for (CLI::App* below : app->get_subcommands([](const CLI::App*) { return true; }))
    expect_numbers(below);
}

}  // namespace

Flag Flag::metavar(const std::string& word) const {
  option_->type_name(word);
  return *this;
}

Flag Flag::group(const std::string& title) const {
  option_->group(title);
  return *this;
}

Flag Flag::required() const {
  option_->required();
  return *this;
}

Flag Flag::show_default() const {
  option_->capture_default_str();
  return *this;
}

Flag Flag::one_of(const std::vector<std::string>& words) const {
  option_->check(CLI::IsMember(words));
  return *this;
}

Flag Flag::range(int low, int high) const {
  option_->check(CLI::Range(low, high));
  return *this;
}

Flag Flag::range(size_t low, size_t high) const {
  option_->check(CLI::Range(low, high));
  return *this;
}

Flag Flag::range(double low, double high) const {
  option_->check(CLI::Range(low, high));
  return *this;
}

Flag Flag::or_nothing() const {
  option_->expected(0, option_->get_expected_max());
  return *this;
}

Flag Flag::check(std::function<std::string(const std::string&)> check,
                 const std::string& what) const {
  option_->check(CLI::Validator([check](std::string& word) { return check(word); }, what));
  return *this;
}

Flag Flag::only_with(const std::string& other, const std::string& why) const {
  verb_->companions.push_back({option_, other, why});
  return *this;
}

std::string Flag::name() const { return "--" + option_->get_lnames().at(0); }
bool Flag::given() const { return option_->count() > 0; }
std::string Flag::value() const { return given() ? option_->results().back() : ""; }
bool Flag::given_another() const {
  return given() && !same_value(value(), option_->get_default_str());
}

Flag Verb::text(const std::string& name, std::string& target, const std::string& help) const {
  return add_option(node_, name, target, help);
}

Flag Verb::list(const std::string& name, std::vector<std::string>& target,
                const std::string& help) const {
  CLI::Option* option = node_->app->add_option(name, target, help);
  option->expected(1, -1)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  return Flag(node_, option);
}

Flag Verb::integer(const std::string& name, int& target, const std::string& help) const {
  return add_option(node_, name, target, help);
}

Flag Verb::integer(const std::string& name, int64_t& target, const std::string& help) const {
  return add_option(node_, name, target, help);
}

Flag Verb::integer(const std::string& name, size_t& target, const std::string& help) const {
  return add_option(node_, name, target, help);
}

Flag Verb::integer(const std::string& name, uint16_t& target, const std::string& help) const {
  return add_option(node_, name, target, help);
}

Flag Verb::integer(const std::string& name, std::optional<int64_t>& target,
                   const std::string& help) const {
  return add_option(node_, name, target, help);
}

Flag Verb::integer(const std::string& name, std::optional<size_t>& target,
                   const std::string& help) const {
  return add_option(node_, name, target, help);
}

Flag Verb::number(const std::string& name, double& target, const std::string& help) const {
  return add_option(node_, name, target, help);
}

Flag Verb::number(const std::string& name, std::optional<double>& target,
                  const std::string& help) const {
  return add_option(node_, name, target, help);
}

Flag Verb::boolean(const std::string& name, bool& target, const std::string& help) const {
  CLI::Option* option = node_->app->add_option(name, target, help);
  option->type_name("True|False")
      ->transform(CLI::Validator(
          [](std::string& word) {
            const std::string typed = std::exchange(word, to_lower(word));
            return word == "true" || word == "false"
                       ? std::string()
                       : fmt::format("expected True or False, found {}", typed);
          },
          ""))
      ->default_str(target ? "True" : "False");
  return Flag(node_, option);
}

Flag Verb::toggle(const std::string& name, bool& target, const std::string& help) const {
  return Flag(node_, node_->app->add_flag(name, target, help));
}

Flag Verb::toggle(const std::string& name, size_t& target, const std::string& help) const {
  return Flag(node_, node_->app->add_flag(name, target, help));
}

Flag Verb::on_text(const std::string& name, std::function<void(const std::string&)> act,
                   const std::string& help) const {
  return Flag(node_, node_->app->add_option_function(name, act, help));
}

Flag Verb::on_list(const std::string& name,
                   std::function<void(const std::vector<std::string>&)> act,
                   const std::string& help) const {
  CLI::Option* option = node_->app->add_option_function(name, act, help);
  option->expected(1, -1);
  return Flag(node_, option);
}

Flag Verb::on_number(const std::string& name, std::function<void(double)> act,
                     const std::string& help) const {
  const std::function<void(const double&)> by_reference = act;
  return Flag(node_, node_->app->add_option_function(name, by_reference, help));
}

Flag Verb::on_toggle(const std::string& name, std::function<void(int64_t)> act,
                     const std::string& help) const {
  return Flag(node_, node_->app->add_flag_function(name, act, help));
}

Verb Verb::verb(const std::string& name, const std::string& help) const {
  CLI::App* app = node_->app->add_subcommand(name, help);
  return Verb(node_->below.emplace_back(std::make_unique<VerbNode>(VerbNode{app})).get());
}

void Verb::needs_verb() const { node_->app->require_subcommand(1); }
void Verb::footer(const std::string& text) const { node_->app->footer(text); }

void Verb::run(std::function<void()> work) const {
  node_->app->callback([app = node_->app, work] {
    if (app->get_subcommands().empty()) work();
  });
}

bool Verb::given(const std::string& flag) const { return node_->app->count(flag) > 0; }

void Verb::expect_companions() const {
  for (const auto& [flag, other, why] : node_->companions) {
    if (flag->count() == 0) continue;
    const CLI::Option* with = node_->app->get_option(other);
    if (with->count() > 0 && !with->results().back().empty()) continue;
    throw usage_error(fmt::format("--{} goes with {}{}", flag->get_lnames().at(0), other, why));
  }
}

std::string Verb::name() const { return node_->app->get_name(); }

std::vector<Verb> Verb::verbs() const {
  std::vector<Verb> below;
  for (const auto& node : node_->below) below.emplace_back(node.get());
  return below;
}

std::vector<FlagNames> Verb::flags() const {
  std::vector<FlagNames> all;
  for (const CLI::Option* option : node_->app->get_options())
    all.push_back({option->get_lnames(), option->get_snames(), option->get_type_name(),
                   option->get_positional()});
  return all;
}

FoundVerb find_verb(const Verb& program, const std::vector<std::string>& words) {
  FoundVerb found = {program, ""};
  for (const std::string& word : words) {
    const std::vector<Verb> below = found.verb.verbs();
    const auto it = std::ranges::find(below, word, &Verb::name);
    if (it == below.end()) break;
    found = {*it, found.words + (found.words.empty() ? "" : " ") + word};
  }
  return found;
}

Program::Program(const std::string& name, const std::string& help, const std::string& version)
    : top_(std::make_unique<VerbNode>()) {
  top_->own = std::make_unique<CLI::App>(help);
  top_->app = top_->own.get();
  top_->app->name(name);
  top_->app->set_version_flag("--version,-V", version);
  top_->app->option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
}

Program::~Program() = default;

Verb Program::top() const { return Verb(top_.get()); }
std::string Program::help() const { return top_->app->help(); }

void Program::parse(std::vector<std::string> words) {
  expect_numbers(top_->app);
  const std::string verb = find_verb(top(), words).words;
  try {
    std::reverse(words.begin(), words.end());  // CLI11 takes a vector from its end
    top_->app->parse(words);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() != static_cast<int>(CLI::ExitCodes::Success))
      throw usage_error(
          fmt::format("{} (octet {} --help explains)", e.what(), verb.empty() ? "VERB" : verb));
    top_->app->exit(e);  // --help, --version
  }
}

std::string to_lower(std::string text) {
  for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  return text;
}

bool same_value(const std::string& a, const std::string& b) {
  if (to_lower(a) == to_lower(b)) return true;
  char *end_a = nullptr, *end_b = nullptr;
  const double x = std::strtod(a.c_str(), &end_a), y = std::strtod(b.c_str(), &end_b);
  return !a.empty() && !b.empty() && *end_a == 0 && *end_b == 0 && x == y;
}

}  // namespace octet::cli
