#include "src/quant/layer/activations.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "src/base/error.h"

namespace octet {
namespace {

TEST(Activations, BeyondTheBudgetTheyLieInAFileWithoutAName) {
  const fs::path dir =
      fs::path(testing::TempDir()) / ("octet_activations_" + std::to_string(::getpid()));
  fs::create_directories(dir);
  ActivationMemory memory(dir, 1000 * sizeof(float));
  {
    Activations first = memory.get(600), second = memory.get(100000), third = memory.get(400);
    EXPECT_FALSE(first.in_file());
    EXPECT_TRUE(second.in_file());
    EXPECT_FALSE(third.in_file());  // what is left of the budget is enough
    EXPECT_EQ(memory.in_file(), 100000 * sizeof(float));
    EXPECT_TRUE(fs::is_empty(dir));
    for (size_t i = 0; i < second.size(); ++i) {
      ASSERT_EQ(second.data()[i], 0.0f);
      second.data()[i] = static_cast<float>(i);
    }
    second.release_rows(0, second.size());
    Activations moved = std::move(second);
    EXPECT_EQ(second.data(), nullptr);  // NOLINT(bugprone-use-after-move): what is left is tested
    for (size_t i = 0; i < moved.size(); ++i) ASSERT_EQ(moved.data()[i], static_cast<float>(i));
  }
  EXPECT_EQ(memory.in_file(), 0u);
  EXPECT_FALSE(memory.get(1000).in_file());  // all of it came back
  fs::remove_all(dir);
  EXPECT_THROW(memory.get(1001), Error);
}

}  // namespace
}  // namespace octet
