// Signals while work is shown, of one progress or several.
#include "src/base/progress.h"

#include <gtest/gtest.h>
#include <signal.h>

#include <optional>

namespace octet {
namespace {

struct sigaction handler_of(int signal) {
  struct sigaction now = {};
  ::sigaction(signal, nullptr, &now);
  return now;
}

void ignore(int) {}

// The handlers are the process's own again when the last progress ends, in whatever order they do.
TEST(Progress, LeavesTheHandlersAsTheyWere) {
  struct sigaction own = {}, before = {};
  own.sa_handler = ignore;
  ::sigaction(SIGTERM, &own, &before);
  std::optional<Progress> first, second;
  first.emplace("a", "step", 2, true);
  EXPECT_NE(handler_of(SIGTERM).sa_handler, &ignore);
  second.emplace("b", "step", 2, true);
  first.reset();
  EXPECT_NE(handler_of(SIGTERM).sa_handler, &ignore);
  second.reset();
  EXPECT_EQ(handler_of(SIGTERM).sa_handler, &ignore);
  ::sigaction(SIGTERM, &before, nullptr);
}

TEST(Progress, ASignalEndsTheWorkAtItsNextUpdate) {
  Progress progress("a", "step", 3, true);
  progress.update(1);
  ::raise(SIGTERM);
  EXPECT_THROW(progress.update(2), Interrupted);
  EXPECT_EQ(handler_of(SIGTERM).sa_handler, SIG_DFL);  // a second one kills
  progress.update(3);                                  // it was told once
}

}  // namespace
}  // namespace octet
