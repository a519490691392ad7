// Linked into test programs of other levels: with the name of a set in OCTET_EMULATED, all of the
// program computes with that set emulated; on a machine that cannot, its tests are skipped, so that
// none passes with another set.
#include <cstdlib>
#include <string>

#include "src/kernels/testing.h"

namespace octet::kernels {
namespace {

const char* const wanted = std::getenv("OCTET_EMULATED");
const std::string name = std::string(wanted == nullptr ? "" : wanted) + "_emulated";
const bool used = [] {
  for (const KernelTable* t : tables())
    if (t->name == name) {
      use_table(*t);
      return true;
    }
  return false;
}();

class EmulatedEverywhere : public testing::Environment {
  void SetUp() override {
    if (wanted == nullptr) return;
    if (table_named("avx2") == nullptr)
      GTEST_SKIP() << "the emulated set needs AVX2";  // as OctetTests.cmake reads
    ASSERT_TRUE(used) << "no set " << name;
    ASSERT_EQ(table().name, name);
  }
};

[[maybe_unused]] const testing::Environment* const environment =
    testing::AddGlobalTestEnvironment(new EmulatedEverywhere);

}  // namespace
}  // namespace octet::kernels
