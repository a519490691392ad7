#include "src/kernels/kernels.h"

#include <cstring>

#include "src/base/error.h"
#include "src/machine/cpu.h"

namespace octet::kernels {
namespace {

// OCTET_KERNELS_<SET>: CMake has built the set (octet_kernel_isa).
const KernelTable& table_of([[maybe_unused]] Isa isa) {
#ifdef OCTET_KERNELS_AMX
  if (isa == Isa::kAmx) return amx::table();
#endif
#ifdef OCTET_KERNELS_AVX512
  if (isa == Isa::kAvx512Vnni) return avx512::table();
#endif
#ifdef OCTET_KERNELS_AVXVNNI
  if (isa == Isa::kAvxVnni) return avxvnni::table();
#endif
#ifdef OCTET_KERNELS_AVX2
  if (isa == Isa::kAvx2) return avx2::table();
#endif
  OCTET_CHECK(isa == Isa::kRef);
  return ref::table();
}

const KernelTable* wanted = nullptr;

}  // namespace

const KernelTable& table() {
  static const KernelTable& t = wanted != nullptr ? *wanted : table_of(selected_isa());
  return t;
}

void use_table(const KernelTable& t) { wanted = &t; }

const KernelTable* table_named(const char* name) {
  for (Isa isa : supported_isas())
    if (isa_name(isa) == name) return &table_of(isa);
  return nullptr;
}

size_t padded_k(const KernelTable& t, size_t k) {
  return (k + t.int8_k_align - 1) / t.int8_k_align * t.int8_k_align;
}
size_t int8_panels(const KernelTable& t, size_t n) { return (n + t.int8_panel - 1) / t.int8_panel; }
size_t float_panels(const KernelTable& t, size_t n) {
  return (n + t.float_panel - 1) / t.float_panel;
}
size_t float_panel_bytes(const KernelTable& t, FloatType type, size_t k) {
  const size_t align = type == FloatType::kBF16 ? t.bf16_k_align : 1;
  return t.float_panel * ((k + align - 1) / align * align) * float_type_size(type);
}
size_t float_type_size(FloatType type) {
  switch (type) {
    case FloatType::kF32:
      return 4;
    case FloatType::kF16:
    case FloatType::kBF16:
      return 2;
    case FloatType::kI8:
      return 1;
  }
  OCTET_CHECK(false);
}

}  // namespace octet::kernels
