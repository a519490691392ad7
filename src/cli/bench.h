// The parts of `octet bench`.
#pragma once

#include <functional>

#include "src/cli/cli.h"
#include "src/kernels/kernels.h"
#include "src/machine/memory.h"
#include "src/machine/thread_team.h"

namespace octet::cli {

// Wall-clock seconds that `work` takes.
double seconds_of(const std::function<void()>& work);

// Operations a second of a set's multiply instruction, all workers at once (KernelTable::int8_peak,
// float_peak).
double peak_rate(ThreadTeam& team, double (*peak)(size_t));
// Bytes a second that all workers read of `stream` with the set's wide loads.
double read_rate(ThreadTeam& team, const kernels::KernelTable& t, const Buffer<float>& stream);

// Each adds its part below `bench`.
void add_bench_attention(Verb program);
void add_bench_kernels(Verb program);
void add_bench_machine(Verb program);
void add_bench_offline(Verb program);
void add_bench_sums(Verb program);
void add_bench_make_model(Verb program);

}  // namespace octet::cli
