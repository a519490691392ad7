// The parts of `octet bench`.
#pragma once

#include "src/cli/cli.h"

namespace octet::cli {

void add_bench_kernels(CLI::App& app);
void add_bench_offline(CLI::App& app);
void add_bench_make_model(CLI::App& app);

}  // namespace octet::cli
