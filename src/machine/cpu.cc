#include "src/machine/cpu.h"

#include <cstdlib>
#include <fstream>

#include "src/base/error.h"

namespace octet {
namespace {
constexpr Isa kAll[] = {Isa::kRef, Isa::kAvx2, Isa::kAvx512Vnni};
}

std::string isa_name(Isa isa) {
  switch (isa) {
    case Isa::kRef:
      return "ref";
    case Isa::kAvx2:
      return "avx2";
    case Isa::kAvx512Vnni:
      return "avx512vnni";
  }
  OCTET_CHECK(false);
}

bool cpu_supports(Isa isa) {
  // __builtin_cpu_supports also asks XGETBV whether the system saves the registers.
  const auto avx2 = [] {
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
           __builtin_cpu_supports("bmi2") && __builtin_cpu_supports("f16c");
  };
  switch (isa) {
    case Isa::kRef:
      return true;
    case Isa::kAvx2:
      return avx2();
    case Isa::kAvx512Vnni:
      return avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
             __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
             __builtin_cpu_supports("avx512vnni");
  }
  return false;
}

std::vector<Isa> supported_isas() {
  std::vector<Isa> out;
  for (Isa isa : kAll)
    if (cpu_supports(isa)) out.push_back(isa);
  return out;
}

Isa resolve_isa(const std::string& request) {
  if (request.empty()) return supported_isas().back();
  for (Isa isa : kAll) {
    if (isa_name(isa) != request) continue;
    if (cpu_supports(isa)) return isa;
    throw usage_error(
        "OCTET_ISA=" + request +
        " asks for instructions that this CPU lacks; best: " + isa_name(supported_isas().back()));
  }
  throw usage_error("OCTET_ISA=" + request + " is unknown; known: ref, avx2, avx512vnni");
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
