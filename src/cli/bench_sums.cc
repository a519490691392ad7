// `octet bench sums`: what ranks of one host take to add up vectors, beside the copies without
// which it cannot be done, both measured in turns within one run.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "src/base/error.h"
#include "src/base/progress.h"
#include "src/cli/bench.h"
#include "src/dist/shared_collectives.h"
#include "src/machine/cpu.h"
#include "src/machine/memory.h"
#include "src/machine/thread_team.h"
#include "src/machine/topology.h"

namespace octet::cli {
namespace {

constexpr double kPatience = 60;
constexpr size_t kBytes[] = {1024, 4096, 16384, 65536, 262144, 1048576};

struct Flags {
  size_t ranks = 2, rounds = 7;
};

// Ranks are threads here: they share memory as processes do, without MPI.
class Bench {
 public:
  explicit Bench(const Flags& f)
      : f_(f),
        team_(f.ranks),
        crowded_(f.ranks > allowed_cores()),
        space_(SharedCollectives::bytes(f.ranks)),
        places_(f.ranks * kBytes[std::size(kBytes) - 1]) {}

  void run() {
    fmt::print("{}, {} ranks; best of {} rounds, sums and copies in turns\n", cpu_model_name(),
               f_.ranks, f_.rounds);
    std::vector<std::vector<std::string>> rows = {{"", "sum", "copies", "sum / copies"}};
    std::vector<double> sums(f_.ranks), copies(f_.ranks);
    team_.run([&](Worker& w) {
      SharedCollectives rank(space_.data(), w.id(), f_.ranks, kPatience, crowded_);
      for (size_t bytes : kBytes) {
        double sum = 1e30, copy = 1e30;  // the best round of the slowest rank
        for (size_t i = 0; i < f_.rounds; ++i) {
          copies[w.id()] = copy_seconds(w, bytes);
          sums[w.id()] = sum_seconds(w, rank, bytes);
          w.barrier();
          copy = std::min(copy, *std::max_element(copies.begin(), copies.end()));
          sum = std::min(sum, *std::max_element(sums.begin(), sums.end()));
          w.barrier();
        }
        if (w.id() == 0)
          rows.push_back({format_bytes(bytes), fmt::format("{:.2f} us", 1e6 * sum),
                          fmt::format("{:.2f} us", 1e6 * copy), fmt::format("{:.2f}", sum / copy)});
      }
    });
    fmt::print("{}", format_table(rows, {true, true, true, true}));
  }

 private:
  static size_t turns(size_t bytes) { return std::clamp<size_t>((4 << 20) / bytes, 8, 400); }

  // A sum of the values of all ranks.
  double sum_seconds(Worker& w, SharedCollectives& rank, size_t bytes) {
    std::vector<int32_t> values(bytes / sizeof(int32_t), 1);
    w.barrier();
    const size_t n = turns(bytes);
    return seconds_of([&] {
             for (size_t i = 0; i < n; ++i) rank.sum(std::span(values));
           }) /
           static_cast<double>(n);
  }

  // Every rank puts its values where the others see them, and gets theirs; without waiting for
  // them.
  double copy_seconds(Worker& w, size_t bytes) {
    std::vector<std::byte> own(bytes), others(bytes);
    double total = 0;
    const size_t n = turns(bytes);
    for (size_t i = 0; i < n; ++i) {
      w.barrier();
      total += seconds_of([&] { std::memcpy(place(w.id()), own.data(), bytes); });
      w.barrier();
      total += seconds_of([&] {
        for (size_t r = 0; r < f_.ranks; ++r)
          if (r != w.id()) std::memcpy(others.data(), place(r), bytes);
      });
    }
    return total / static_cast<double>(n);
  }
  std::byte* place(size_t rank) { return places_.data() + rank * kBytes[std::size(kBytes) - 1]; }

  Flags f_;
  ThreadTeam team_;
  bool crowded_;
  Buffer<std::byte> space_, places_;
};

}  // namespace

void add_bench_sums(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("sums", "sums over ranks of one host against copying");
  auto f = std::make_shared<Flags>();
  sub->add_option("--ranks", f->ranks, "ranks")->check(CLI::Range(2, 64))->capture_default_str();
  sub->add_option("--rounds", f->rounds, "measurements; the best counts")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  sub->callback([f] { Bench(*f).run(); });
}

}  // namespace octet::cli
