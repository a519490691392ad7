#include "src/machine/cpu.h"

#if defined(__x86_64__)
#include <sys/syscall.h>
#include <unistd.h>
#endif

#include <cstdlib>
#include <fstream>

#include "src/base/error.h"

namespace octet {
namespace {

struct IsaRow {
  Isa isa;
  const char* name;
};
// In order of preference, best last.
constexpr IsaRow kIsaRows[] = {{Isa::kRef, "ref"},
                               {Isa::kAvx2, "avx2"},
                               {Isa::kAvxVnni, "avxvnni"},
                               {Isa::kAvx512Vnni, "avx512vnni"},
                               {Isa::kAmx, "amx"}};

#if defined(__x86_64__)
// The tiles' registers belong to a process that has asked for them, its later threads too (Linux:
// Documentation/arch/x86/xstate.rst).
bool tiles_granted() {
  constexpr long kRequestPermission = 0x1023;  // ARCH_REQ_XCOMP_PERM
  constexpr long kTileData = 18;               // XFEATURE_XTILEDATA
  static const bool granted = ::syscall(SYS_arch_prctl, kRequestPermission, kTileData) == 0;
  return granted;
}
#endif

std::string isa_names() {
  std::string names;
  for (const IsaRow& row : kIsaRows) names += (names.empty() ? "" : ", ") + std::string(row.name);
  return names;
}

}  // namespace

std::string isa_name(Isa isa) {
  for (const IsaRow& row : kIsaRows)
    if (row.isa == isa) return row.name;
  OCTET_CHECK(false);
}

bool cpu_supports(Isa isa) {
#if defined(__x86_64__)
  // __builtin_cpu_supports also asks XGETBV whether the system saves the registers.
  const auto avx2 = [] {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("f16c");
  };
  const auto avx512vnni = [&] {
    return avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
  };
  switch (isa) {
    case Isa::kRef:
      return true;
    case Isa::kAvx2:
      return avx2();
    case Isa::kAvxVnni:
      return avx2() && __builtin_cpu_supports("avxvnni");
    case Isa::kAvx512Vnni:
      return avx512vnni();
    case Isa::kAmx:
      return avx512vnni() && __builtin_cpu_supports("amx-tile") &&
             __builtin_cpu_supports("amx-int8") && __builtin_cpu_supports("amx-bf16") &&
             tiles_granted();
  }
  return false;
#else
  return isa == Isa::kRef;
#endif
}

std::vector<Isa> supported_isas() {
  std::vector<Isa> out;
  for (const IsaRow& row : kIsaRows)
    if (cpu_supports(row.isa)) out.push_back(row.isa);
  return out;
}

Isa best_isa() { return supported_isas().back(); }

Isa resolve_isa(const std::string& request) {
  if (request.empty()) return best_isa();
  for (const IsaRow& row : kIsaRows) {
    if (row.name != request) continue;
    if (cpu_supports(row.isa)) return row.isa;
    throw usage_error(
        "OCTET_ISA=" + request +
        " asks for instructions that this CPU or its system lacks; best: " + isa_name(best_isa()));
  }
  throw usage_error("OCTET_ISA=" + request + " is unknown; known: " + isa_names());
}

Isa selected_isa() {
  static const Isa isa = [] {
    const char* env = std::getenv("OCTET_ISA");
    return resolve_isa(env == nullptr ? "" : env);
  }();
  return isa;
}

std::string cpu_model_name() {
  std::ifstream in("/proc/cpuinfo");
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("model name"))
      if (const auto colon = line.find(": "); colon != std::string::npos)
        return line.substr(colon + 2);
  return "";
}

}  // namespace octet
