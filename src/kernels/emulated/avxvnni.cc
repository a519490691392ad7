// avxvnni.cc with its one instruction beyond AVX2 emulated, for tests: the set "avxvnni_emulated".
#include <immintrin.h>

#include "src/kernels/emulated/instructions.h"

#define _mm256_dpbusd_avx_epi32 emulated::dpbusd_epi32
#define avxvnni avxvnni_emulated
#include "src/kernels/avxvnni/avxvnni.cc"

namespace octet::kernels::avxvnni_emulated {

const KernelTable& emulated_table() noexcept {
  static const KernelTable t = emulated::named(table(), "avxvnni_emulated");
  return t;
}

}  // namespace octet::kernels::avxvnni_emulated
