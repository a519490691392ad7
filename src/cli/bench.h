// The parts of `octet bench`.
#pragma once

#include <functional>

#include "src/cli/cli.h"

namespace octet::cli {

// Wall-clock seconds that `work` takes.
double seconds_of(const std::function<void()>& work);

// Each adds its part below `bench`.
void add_bench_kernels(Verb program);
void add_bench_machine(Verb program);
void add_bench_offline(Verb program);
void add_bench_sums(Verb program);
void add_bench_make_model(Verb program);

}  // namespace octet::cli
