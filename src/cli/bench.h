// The parts of `octet bench`.
#pragma once

#include <functional>

#include "src/cli/cli.h"

namespace octet::cli {

// Wall-clock seconds that `work` takes.
double seconds_of(const std::function<void()>& work);

// Each adds its part below `bench`.
void add_bench_kernels(CLI::App& app);
void add_bench_offline(CLI::App& app);
void add_bench_sums(CLI::App& app);
void add_bench_make_model(CLI::App& app);

}  // namespace octet::cli
