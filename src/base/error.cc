#include "src/base/error.h"

#include <cstdio>
#include <cstdlib>

#include "src/base/say.h"

namespace octet {

void Error::render() {
  text_.clear();
  auto add = [this](const char* label, const std::string& v) {
    if (v.empty()) return;
    text_ += text_.empty() ? "" : (label[0] == '\0' ? " " : "; ");
    text_ += label;
    text_ += v;
  };
  if (!file_.empty()) text_ = file_ + ": ";
  text_ += what_;
  add("tensor ", tensor_);
  add("field ", field_);
  add("expected ", expected_);
  add("found ", found_);
  add("", remedy_.empty() ? remedy_ : "(" + remedy_ + ")");
}

namespace internal {
void check_failed(const char* condition, const char* file, int line) {
  char number[32];
  std::snprintf(number, sizeof(number), ":%d\n", line);
  for (const char* part : {"octet: internal error: ", condition, " does not hold at ", file})
    say(part);
  say(number);
  std::abort();
}
}  // namespace internal

}  // namespace octet
