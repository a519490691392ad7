// Linked into test programs of other levels: with OCTET_EMULATED in the environment, all of the
// program computes with the emulated set; on a machine that cannot, its tests are skipped, so that
// none passes with another set.
#include <cstdlib>
#include <string>

#include "src/kernels/testing.h"

namespace octet::kernels {
namespace {

const bool wanted = std::getenv("OCTET_EMULATED") != nullptr;
const bool used = [] {
  if (!wanted || table_named("avx2") == nullptr) return false;
  use_table(avx512_emulated::emulated_table());
  return true;
}();

class EmulatedEverywhere : public testing::Environment {
  void SetUp() override {
    if (wanted && !used)
      GTEST_SKIP() << "the emulated set needs AVX2";  // as OctetTests.cmake reads
    ASSERT_EQ(std::string(table().name) == "avx512vnni_emulated", used);
  }
};

[[maybe_unused]] const testing::Environment* const environment =
    testing::AddGlobalTestEnvironment(new EmulatedEverywhere);

}  // namespace
}  // namespace octet::kernels
