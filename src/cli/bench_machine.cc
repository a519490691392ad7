// `octet bench machine`: what the machine can do at most, by instruction set and number of threads.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <numeric>
#include <vector>

#include "src/cli/bench.h"
#include "src/cli/flags.h"
#include "src/kernels/kernels.h"
#include "src/machine/cpu.h"
#include "src/machine/memory.h"
#include "src/machine/thread_team.h"
#include "src/machine/topology.h"

namespace octet::cli {
namespace {

struct MachineFlags {
  size_t rounds = 5, mebibytes = 256;
};

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

class MachineBench {
 public:
  explicit MachineBench(const MachineFlags& f)
      : rounds_(f.rounds), stream_((f.mebibytes << 20) / sizeof(float)) {
    std::fill_n(stream_.data(), stream_.size(), 1.0f);
  }

  void run() {
    const size_t all = default_thread_count();
    fmt::print("{}, {} threads; median (best) of {} rounds, {} MiB read\n", cpu_model_name(), all,
               rounds_, stream_.size() * sizeof(float) >> 20);
    for (size_t threads = 1; threads <= all;
         threads = std::max(threads + 1, std::min(2 * threads, all)))
      measure(threads);
    fmt::print("{}", format_table(rows_, {false, true, true, true, true}));
  }

 private:
  // A round measures every set, so that what disturbs one disturbs all.
  void measure(size_t threads) {
    ThreadTeam team(threads);
    const std::vector<Isa> sets = supported_isas();
    std::vector<std::vector<double>> int8(sets.size()), floats(sets.size()), read(sets.size());
    for (size_t round = 0; round < rounds_; ++round)
      for (size_t i = 0; i < sets.size(); ++i) {
        const kernels::KernelTable& t = *kernels::table_named(isa_name(sets[i]).c_str());
        int8[i].push_back(peak_rate(team, t.int8_peak));
        floats[i].push_back(peak_rate(team, t.float_peak));
        read[i].push_back(read_rate(team, t, stream_));
      }
    const auto cell = [](const std::vector<double>& v) {
      return fmt::format("{:.1f} ({:.1f})", median(v) / 1e9, *std::ranges::max_element(v) / 1e9);
    };
    for (size_t i = 0; i < sets.size(); ++i)
      rows_.push_back({isa_name(sets[i]), std::to_string(threads), cell(int8[i]), cell(floats[i]),
                       cell(read[i])});
  }

  size_t rounds_;
  Buffer<float> stream_;
  std::vector<std::vector<std::string>> rows_ = {
      {"set", "threads", "int8 Gop/s", "float Gflop/s", "read GB/s"}};
};

}  // namespace

double peak_rate(ThreadTeam& team, double (*peak)(size_t)) {
  constexpr size_t kSteps = 1'000'000;
  std::vector<double> done(team.size());
  const double seconds =
      seconds_of([&] { team.run([&](Worker& w) { done[w.id()] = peak(kSteps); }); });
  return std::accumulate(done.begin(), done.end(), 0.0) / seconds;
}

double read_rate(ThreadTeam& team, const kernels::KernelTable& t, const Buffer<float>& stream) {
  std::vector<float> sums(team.size() * 16);
  const double seconds = seconds_of([&] {
    team.run([&](Worker& w) {
      const auto [begin, end] = w.share(stream.size(), 64);
      sums[w.id() * 16] = t.read_memory(stream.data() + begin, end - begin);
    });
  });
  volatile float sink = sums[0];  // so that the reading is not optimized away
  (void)sink;
  return static_cast<double>(stream.size() * sizeof(float)) / seconds;
}

void add_bench_machine(Verb program) {
  const Verb verb = program.verb("machine", "the machine's limits by instruction set and threads");
  auto f = std::make_shared<MachineFlags>();
  verb.integer("--rounds", f->rounds, "measurements of each limit")
      .range(size_t{1}, size_t{1000})
      .show_default();
  verb.integer("--mebibytes", f->mebibytes, "memory that is read; far beyond the caches")
      .range(size_t{1}, size_t{1} << 20)
      .show_default();
  verb.run([f] { MachineBench(*f).run(); });
}

}  // namespace octet::cli
