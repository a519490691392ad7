// Flags, verbs and the program that has them. A flag is defined once, where its verb adds it: its
// names, what it fills and with that its default, what it takes, its help and what it goes with.
//
//   Verb verb = program.verb("chat", "a conversation in the terminal");
//   verb.text("--system", f->system, "the system message");
//   verb.integer("--max-tokens", f->max_tokens, "tokens to generate at most")
//       .range(size_t{1}, size_t{1} << 30)
//       .show_default();
//   verb.run([f] { run(*f); });
//
// The one file that knows the parser behind this (CLI11) is flags.cc: it is dear to compile.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace CLI {
class Option;
}  // namespace CLI

namespace octet::cli {

struct VerbNode;  // what the program keeps of a verb

// A flag that a verb has: a handle, valid as long as the program.
class Flag {
 public:
  Flag(VerbNode* verb, CLI::Option* option) : verb_(verb), option_(option) {}

  // What --help shows for the value: FILE, octet|mindie|FILE. Shell completion offers its words in
  // small letters.
  Flag metavar(const std::string& word) const;
  Flag group(const std::string& title) const;  // of --help
  Flag required() const;
  Flag show_default() const;  // in --help: what the target holds now
  Flag one_of(const std::vector<std::string>& words) const;
  Flag range(int low, int high) const;
  Flag range(size_t low, size_t high) const;
  Flag range(double low, double high) const;
  // The flag's value may be left out: `--anti-method` with nothing behind it.
  Flag or_nothing() const;
  // `check` says what is wrong with a word ("" = nothing); `what` describes it in --help.
  Flag check(std::function<std::string(const std::string&)> check, const std::string& what) const;
  // Refused by Verb::expect_companions() where `other` is not given, or empty; `why` follows the
  // message.
  Flag only_with(const std::string& other, const std::string& why = "") const;

  std::string name() const;  // the first long one: --tp
  bool given() const;
  std::string value() const;  // as it was given last; "" when it was not
  // Whether it was given a value that is not its default (as shown; "" where it is not).
  bool given_another() const;

 private:
  VerbNode* verb_;
  CLI::Option* option_;
};

// What a flag or positional argument is called and takes, for those who go through all of them.
struct FlagNames {
  std::vector<std::string> long_names, short_names;  // without dashes
  std::string type;                                  // as --help shows it
  bool positional = false;
};

// A verb: what it takes, the verbs below it, what it does. A handle, valid as long as the program.
//
// Names are those of the parser: "--tp,--tensor-parallel-size" for two, "MODEL" for a positional
// argument, "--x,!--no-x" for a toggle with its opposite. Targets must live until the program has
// run. Of a flag that is given twice the last counts; of a list, all.
class Verb {
 public:
  explicit Verb(VerbNode* node) : node_(node) {}

  Flag text(const std::string& name, std::string& target, const std::string& help) const;
  Flag list(const std::string& name, std::vector<std::string>& target,
            const std::string& help) const;  // one word or more
  Flag integer(const std::string& name, int& target, const std::string& help) const;
  Flag integer(const std::string& name, int64_t& target, const std::string& help) const;
  Flag integer(const std::string& name, size_t& target, const std::string& help) const;
  Flag integer(const std::string& name, uint16_t& target, const std::string& help) const;
  Flag integer(const std::string& name, std::optional<int64_t>& target,
               const std::string& help) const;
  Flag integer(const std::string& name, std::optional<size_t>& target,
               const std::string& help) const;
  Flag number(const std::string& name, double& target, const std::string& help) const;
  Flag number(const std::string& name, std::optional<double>& target,
              const std::string& help) const;
  // The words True or False (msModelSlim's way), in any case.
  Flag boolean(const std::string& name, bool& target, const std::string& help) const;
  // No value: it is there or not. With "--x{3}" and a number: 3 when it is there, N for --x=N.
  Flag toggle(const std::string& name, bool& target, const std::string& help) const;
  Flag toggle(const std::string& name, size_t& target, const std::string& help) const;

  // Those that fill nothing: `act` is called where they are given.
  Flag on_text(const std::string& name, std::function<void(const std::string&)> act,
               const std::string& help) const;
  Flag on_list(const std::string& name, std::function<void(const std::vector<std::string>&)> act,
               const std::string& help) const;  // one word or more
  Flag on_number(const std::string& name, std::function<void(double)> act,
                 const std::string& help) const;
  // `times` it was given less those of its opposite.
  Flag on_toggle(const std::string& name, std::function<void(int64_t times)> act,
                 const std::string& help) const;

  Verb verb(const std::string& name, const std::string& help) const;  // a new one below
  void needs_verb() const;                                            // does nothing by itself
  void footer(const std::string& text) const;                         // of --help
  // What it does once all is read; not when a verb below it was given.
  void run(std::function<void()> work) const;

  bool given(const std::string& flag) const;
  // Throws kUsage Error for the first flag that was given without what it goes with (only_with).
  void expect_companions() const;

  std::string name() const;
  std::vector<Verb> verbs() const;
  std::vector<FlagNames> flags() const;

 private:
  VerbNode* node_;
};

// The verb that `words` begin with, and what it is called: "quantize quant". The program itself and
// "" when they begin with none.
struct FoundVerb {
  Verb verb;
  std::string words;
};
FoundVerb find_verb(const Verb& program, const std::vector<std::string>& words);

// The whole program: a verb that has --version, and reads words.
class Program {
 public:
  Program(const std::string& name, const std::string& help, const std::string& version);
  ~Program();

  Verb top() const;
  std::string help() const;
  // Reads the words and does what the verb does; --help and --version are printed. Throws kUsage
  // Error for wrong words, and what the verb throws. Once: targets keep what they were given.
  void parse(std::vector<std::string> words);

 private:
  std::unique_ptr<VerbNode> top_;
};

// Whether two words are the same value: equal numbers, or equal but for the case of letters.
bool same_value(const std::string& a, const std::string& b);
std::string to_lower(std::string text);

}  // namespace octet::cli
