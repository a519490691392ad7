// Linked into test programs of other levels: with OCTET_EMULATED in the environment, all of the
// program computes with the emulated set, on machines that can run it.
#include <cstdlib>
#include <string>

#include "src/kernels/testing.h"

namespace octet::kernels {
namespace {

const bool used = [] {
  const bool wanted = std::getenv("OCTET_EMULATED") != nullptr && table_named("avx2") != nullptr;
  if (wanted) use_table(avx512_emulated::emulated_table());
  return wanted;
}();

TEST(Emulated, IsUsedWhereItIsWanted) {
  EXPECT_EQ(std::string(table().name) == "avx512vnni_emulated", used);
}

}  // namespace
}  // namespace octet::kernels
