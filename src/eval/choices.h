// Multiple-choice questions in the shapes that lm-eval's tasks come in, and a model's answers.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "src/base/file.h"
#include "src/eval/eval.h"
#include "src/text/tokenizer.h"

namespace octet {

// A question before its tokens: the text that precedes every answer, and the answers.
struct ChoiceText {
  std::string context;
  std::vector<std::string> choices;
  size_t gold = 0;
};

// One object a line. The context is `query`, `question`, `ctx`, `context`, `prompt` or
// `inputs_pretokenized`; the answers are `choices` or `endings`, a list of strings (or, as in ARC,
// an object with the lists `text` and `label`); the right one is `gold`, `label`, `answer` or
// `answerKey`: a number counted from 0, a letter, one of the labels, or the answer itself. Throws
// Error naming the line.
std::vector<ChoiceText> read_choices(const fs::path& path);

// Every answer is " " + choice; white space at the end of the context goes to the answers; an
// answer's tokens are those of context + answer after as many as the context alone has. So lm-eval
// draws the border, too.
struct ChoiceQuestion {
  std::vector<int32_t> context;
  std::vector<std::vector<int32_t>> answers;
  std::vector<size_t> characters;  // of each choice, without the space before it
  size_t gold = 0;

  size_t longest() const;  // tokens of the context and the longest answer
};
// Errors name the question by `where`.
ChoiceQuestion encode(const ChoiceText& text, const text::Tokenizer& tokenizer,
                      const std::string& where);

// ln p(answer | context), for every answer.
std::vector<double> log_likelihoods(Scorer& model, const ChoiceQuestion& question);

// Whether the right answer has the largest log likelihood (acc), and the largest one per character
// (acc_norm); of equals the first counts.
struct ChoiceResult {
  bool acc = false, acc_norm = false;
};
ChoiceResult judge(const ChoiceQuestion& question, const std::vector<double>& log_likelihoods);

}  // namespace octet
