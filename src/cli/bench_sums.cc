// `octet bench sums`: what ranks of one host take to add up vectors, beside MPI's own way and the
// copies without which it cannot be done, all measured in turns within one run.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <limits>
#include <memory>

#include "src/base/error.h"
#include "src/base/progress.h"
#include "src/cli/bench.h"
#include "src/cli/ranks.h"
#include "src/machine/cpu.h"

namespace octet::cli {
namespace {

constexpr size_t kBytes[] = {1024, 4096, 16384, 65536, 262144, 1048576};
constexpr size_t kMost = kBytes[std::size(kBytes) - 1];

struct SumsBenchFlags {
  size_t ranks = 2, rounds = 7;
};

class SumsBench {
 public:
  SumsBench(const SumsBenchFlags& f, MpiJob& job)
      : f_(f), job_(job), ranks_(job.ranks()), own_(kMost / sizeof(int32_t), 1), others_(own_) {
    if (ranks_.on_host() != ranks_.size())
      throw usage_error("octet bench sums measures the ranks of one host; these are on several");
    places_ = static_cast<std::byte*>(job.share(ranks_.size() * kMost));
    if (places_ == nullptr) throw Error("the ranks have no memory to share");
  }

  void run() {
    std::vector<std::vector<std::string>> rows = {
        {"", "sum", "MPI's sum", "copies", "sum / MPI's", "sum / copies"}};
    for (size_t bytes : kBytes) {
      const std::span<int32_t> values(own_.data(), bytes / sizeof(int32_t));
      double sum = kNever, mpi = kNever, copy = kNever;  // the best rounds
      for (size_t i = 0; i < f_.rounds; ++i) {
        copy = std::min(copy, copy_seconds(bytes));
        sum = std::min(sum, seconds(bytes, [&] { ranks_.sum(values); }));
        mpi = std::min(mpi, seconds(bytes, [&] { job_.sum_by_mpi(values); }));
      }
      ranks_.throw_failure();
      const auto micro = [](double s) { return fmt::format("{:.2f} us", 1e6 * s); };
      rows.push_back({format_bytes(bytes), micro(sum), micro(mpi), micro(copy),
                      fmt::format("{:.2f}", sum / mpi), fmt::format("{:.2f}", sum / copy)});
    }
    if (ranks_.rank() != 0) return;
    fmt::print("{}, {} ranks; best of {} rounds, in turns\n{}", cpu_model_name(), ranks_.size(),
               f_.rounds, format_table(rows, std::vector<bool>(rows[0].size(), true)));
  }

 private:
  static constexpr double kNever = std::numeric_limits<double>::infinity();
  static size_t turns(size_t bytes) { return std::clamp<size_t>((4 << 20) / bytes, 8, 400); }

  // Of the slowest rank.
  double slowest(double seconds) {
    float all = static_cast<float>(seconds);
    ranks_.maximum({&all, 1});
    return all;
  }

  template <typename Work>
  double seconds(size_t bytes, const Work& work) {
    std::ranges::fill(own_, 1);
    const size_t n = turns(bytes);
    ranks_.meet();
    return slowest(seconds_of([&] {
                     for (size_t i = 0; i < n; ++i) work();
                   }) /
                   static_cast<double>(n));
  }

  // Every rank puts its values where the others see them, and gets theirs; without waiting for
  // them.
  double copy_seconds(size_t bytes) {
    const auto place = [&](size_t rank) { return places_ + rank * kMost; };
    const size_t n = turns(bytes);
    double total = 0;
    for (size_t i = 0; i < n; ++i) {
      ranks_.meet();
      total += seconds_of([&] { std::memcpy(place(ranks_.rank()), own_.data(), bytes); });
      ranks_.meet();
      total += seconds_of([&] {
        for (size_t r = 0; r < ranks_.size(); ++r)
          if (r != ranks_.rank()) std::memcpy(others_.data(), place(r), bytes);
      });
    }
    return slowest(total / static_cast<double>(n));
  }

  SumsBenchFlags f_;
  MpiJob& job_;
  Communicator& ranks_;
  std::byte* places_;
  std::vector<int32_t> own_, others_;
};

}  // namespace

void add_bench_sums(Verb program) {
  const Verb verb =
      program.verb("sums", "sums over ranks of one host against MPI's, and against copying");
  auto f = std::make_shared<SumsBenchFlags>();
  add_ranks_flag(verb, f->ranks);
  verb.integer("--rounds", f->rounds, "measurements; the best counts")
      .range(1, 1000)
      .show_default();
  verb.run([f, verb] {
    if (f->ranks < 2 && !MpiJob::joined()) throw usage_error("--tp: a sum takes two ranks or more");
    const bool given = verb.given("--tp");  // else a launcher knows
    on_job(MpiJob::joined() && !given ? 1 : f->ranks,
           [&](MpiJob& job) { SumsBench(*f, job).run(); });
  });
}

}  // namespace octet::cli
