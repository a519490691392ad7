// avx512.cc with every instruction of AVX-512 emulated, for tests: the set "avx512vnni_emulated".
#include "src/kernels/emulated/rename_avx512.h"

#include "src/kernels/avx512/avx512.cc"

namespace octet::kernels::avx512_emulated {

const KernelTable& emulated_table() noexcept {
  static const KernelTable t = emulated::named(table(), "avx512vnni_emulated");
  return t;
}

}  // namespace octet::kernels::avx512_emulated
