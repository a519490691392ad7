// Which instruction set the kernels use: the best one that this CPU can run, or the one that
// the environment variable OCTET_ISA names. On processors other than x86-64 that is `ref`.
#pragma once

#include <string>
#include <vector>

namespace octet {

// In order of preference, best last.
enum class Isa { kRef, kAvx2, kAvxVnni, kAvx512Vnni, kAmx };

std::string isa_name(Isa isa);  // "ref", "avx2", "avxvnni", "avx512vnni", "amx": as in OCTET_ISA
// By CPUID and the operating system's register state; asks the system for AMX's.
bool cpu_supports(Isa isa);
std::vector<Isa> supported_isas();  // what this machine can run, best last

Isa best_isa();  // the choice without a request

// The choice for this process, made at the first call. Throws kUsage when OCTET_ISA names an
// unknown set or one that this CPU lacks.
Isa selected_isa();
// The same without the cache, for the value `request` ("" = best).
Isa resolve_isa(const std::string& request);

std::string cpu_model_name();  // from /proc/cpuinfo, "" when unknown

// For each round of a loop that waits for another thread or process: leaves the core to its other
// hardware thread for a moment, where there is an instruction for that.
inline void pause_briefly() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

}  // namespace octet
