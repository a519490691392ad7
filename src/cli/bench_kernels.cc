// `octet bench kernels`: the matrix kernels as a share of what the machine can do, both measured in
// turns within one run.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <random>

#include "src/base/error.h"
#include "src/base/float16.h"
#include "src/cli/bench.h"
#include "src/cli/flags.h"
#include "src/machine/cpu.h"
#include "src/model/float_linear.h"
#include "src/model/int8_linear.h"

namespace octet::cli {
namespace {

struct KernelBenchFlags {
  size_t tokens = 512, n = 4096, k = 4096, rounds = 7;
};

// The best speed of each side, measured in turns.
struct Pair {
  double kernel = 0, limit = 0;
};
Pair in_turns(size_t rounds, const std::function<double()>& kernel,
              const std::function<double()>& limit) {
  Pair best;
  for (size_t i = 0; i < rounds; ++i) {
    best.limit = std::max(best.limit, limit());
    best.kernel = std::max(best.kernel, kernel());
  }
  return best;
}

class KernelBench {
 public:
  explicit KernelBench(const KernelBenchFlags& f)
      : f_(f),
        x_(std::max<size_t>(f.tokens, 1) * f.k),
        y_(std::max<size_t>(f.tokens, 1) * f.n),
        stage_(std::max<size_t>(f.tokens, 1), f.k, 1),
        stream_(size_t{64} << 20) {
    std::mt19937 random(1);
    std::uniform_real_distribution<float> uniform(-1, 1);
    for (size_t i = 0; i < f.tokens * f.k; ++i) x_[i] = uniform(random);
    std::vector<int8_t> w(f.n * f.k);
    for (int8_t& v : w) v = static_cast<int8_t>(random() % 255 - 127);
    // Enough copies for weights to come from memory, as a model's do.
    const size_t copies = std::max<size_t>(1, (size_t{192} << 20) / w.size());
    const W8A8Params params{0.01f, 3, std::vector<int32_t>(f.n, 1), std::vector<float>(f.n, 0.01f)};
    const std::vector<float> scale(f.n, 0.01f);
    for (size_t c = 0; c < copies; ++c) {
      const auto weights = std::make_shared<const Int8Weights>(w.data(), f.n, f.k, team_);
      int8_.push_back(std::make_unique<W8A8Linear>(weights, params));
      token_.push_back(std::make_unique<DynamicLinear>(weights, DynamicParams{scale, {}}));
      w8a16_.push_back(std::make_unique<W8A16Linear>(contiguous_rows(w.data(), f.k), f.n, f.k,
                                                     W8A16Params{scale, {}, {}}, team_));
    }
    std::vector<bf16> wf(f.n * f.k);
    for (bf16& v : wf) v = to_bf16(uniform(random));
    for (size_t c = 0; c < std::max<size_t>(1, copies / 2); ++c)
      float_.push_back(std::make_unique<FloatLinear>(wf.data(), kernels::FloatType::kBF16, f.n, f.k,
                                                     std::vector<float>(), team_));
    std::fill_n(stream_.data(), stream_.size(), 1.0f);
  }

  void run() {
    fmt::print("{}, {} threads, {}; best of {} rounds, kernel and limit in turns\n",
               cpu_model_name(), team_.size(), isa_name(selected_isa()), f_.rounds);
    std::vector<std::vector<std::string>> rows = {
        {"kernel", "m", "n", "k", "speed", "limit", "share"}};
    const auto& t = kernels::table();
    multiply("int8 GEMM", int8_, t.int8_peak, rows);
    multiply("int8 GEMM per token", token_, t.int8_peak, rows);
    multiply("W8A16 GEMM", w8a16_, t.float_peak, rows);
    multiply("bf16 GEMM", float_, t.float_peak, rows);
    read("int8 GEMV", int8_, rows);
    read("int8 GEMV per token", token_, rows);
    read("W8A16 GEMV", w8a16_, rows);
    read("bf16 GEMV", float_, rows);
    fmt::print("{}", format_table(rows, {false, true, true, true, true, true, true}));
  }

 private:
  double timed_run(const std::function<void(Worker&)>& work) {
    return seconds_of([&] { team_.run(work); });
  }

  template <typename L>
  double time_linear(L& linear, size_t m) {
    return timed_run([&](Worker& w) {
      const Rows in = {x_.data(), f_.k, m};
      linear.stage(w, in, stage_, 0);
      w.barrier();
      linear.compute(w, in, {y_.data(), f_.n}, stage_, 0);
    });
  }

  void row(const char* name, size_t m, double speed, double limit, const char* unit,
           std::vector<std::vector<std::string>>& rows) {
    rows.push_back({name, std::to_string(m), std::to_string(f_.n), std::to_string(f_.k),
                    fmt::format("{:.1f} {}", speed / 1e9, unit),
                    fmt::format("{:.1f} {}", limit / 1e9, unit),
                    fmt::format("{:.0f} %", 100 * speed / limit)});
  }

  // GEMM against the multiply units.
  template <typename L>
  void multiply(const char* name, std::vector<std::unique_ptr<L>>& linears, double (*peak)(size_t),
                std::vector<std::vector<std::string>>& rows) {
    const double work = 2.0 * static_cast<double>(f_.tokens) * static_cast<double>(f_.n) *
                        static_cast<double>(f_.k);
    const Pair best = in_turns(
        f_.rounds, [&] { return work / time_linear(*linears[0], f_.tokens); },
        [&] { return peak_rate(team_, peak); });
    row(name, f_.tokens, best.kernel, best.limit, "Gop/s", rows);
  }

  // GEMV against reading memory.
  template <typename L>
  void read(const char* name, std::vector<std::unique_ptr<L>>& linears,
            std::vector<std::vector<std::string>>& rows) {
    const Pair best = in_turns(
        f_.rounds,
        [&] {
          double s = 0;
          for (auto& l : linears) s += time_linear(*l, 1);
          return static_cast<double>(linears.size() * linears[0]->bytes()) / s;
        },
        [&] { return read_rate(team_, kernels::table(), stream_); });
    row(name, 1, best.kernel, best.limit, "GB/s", rows);
  }

  KernelBenchFlags f_;
  ThreadTeam team_;
  Buffer<float> x_, y_;
  StageBuffer stage_;
  Buffer<float> stream_;  // read to learn the memory's speed
  std::vector<std::unique_ptr<W8A8Linear>> int8_;
  std::vector<std::unique_ptr<DynamicLinear>> token_;  // the same weights
  std::vector<std::unique_ptr<W8A16Linear>> w8a16_;
  std::vector<std::unique_ptr<FloatLinear>> float_;
};

}  // namespace

void add_bench_kernels(Verb program) {
  const Verb verb = program.verb("kernels", "GEMM and GEMV against the machine's limits");
  auto f = std::make_shared<KernelBenchFlags>();
  verb.integer("--tokens", f->tokens, "rows of the GEMM").show_default();
  verb.integer("-n", f->n, "outputs").show_default();
  verb.integer("-k", f->k, "inputs").show_default();
  verb.integer("--rounds", f->rounds, "measurements; the best counts").show_default();
  verb.run([f] {
    if (f->tokens == 0 || f->n == 0 || f->k == 0 || f->rounds == 0)
      throw usage_error("octet bench kernels: sizes must be at least 1");
    KernelBench(*f).run();
  });
}

}  // namespace octet::cli
