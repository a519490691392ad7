// Questions to be answered by yes or no, in the shapes that BoolQ comes in.
#pragma once

#include <string>
#include <vector>

#include "src/base/file.h"

namespace octet {

// A question before its tokens: all that the model reads, and the right answer.
struct YesNoText {
  std::string prompt;
  bool yes = false;
};

// One object a line. What the model reads is `inputs_pretokenized`; or, of `passage` and `question`
// (as BoolQ is published), lm-eval's prompt: the passage, headed by `title` where there is one and
// the passage does not begin with it, "Question: ...?" and "Answer:". The right answer is `answer`
// ("yes", "no", true or false) or `label` (1, 0, true or false). Throws Error naming the line.
std::vector<YesNoText> read_yes_no(const fs::path& path);

}  // namespace octet
