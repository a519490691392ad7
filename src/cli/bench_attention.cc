// `octet bench attention`: attention as a share of the float multiply-add's rate, and of reading
// the KV cache, measured in turns within one run.
#include <fmt/format.h>

#include <algorithm>
#include <memory>
#include <random>

#include "src/base/error.h"
#include "src/cli/bench.h"
#include "src/cli/flags.h"
#include "src/machine/cpu.h"
#include "src/model/attention.h"
#include "src/model/kv_cache.h"

namespace octet::cli {
namespace {

struct AttentionBenchFlags {
  size_t heads = 12, kv_heads = 2, head_dim = 128, tokens = 512, position = 0, rounds = 7;
};

ModelConfig config_of(const AttentionBenchFlags& f) {
  ModelConfig c;
  c.layers = 1;
  c.heads = static_cast<int64_t>(f.heads);
  c.kv_heads = static_cast<int64_t>(f.kv_heads);
  c.head_dim = static_cast<int64_t>(f.head_dim);
  c.hidden_size = c.heads * c.head_dim;
  c.intermediate_size = c.hidden_size;
  return c;
}

class AttentionBench {
 public:
  explicit AttentionBench(const AttentionBenchFlags& f)
      : f_(f), config_(config_of(f)), shape_(config_), stream_(size_t{64} << 20) {
    std::mt19937 random(1);
    std::uniform_real_distribution<float> uniform(-1, 1);
    qkv_ = Buffer<float>(f.tokens * (shape_.q_size() + 2 * shape_.kv_size()));
    out_ = Buffer<float>(f.tokens * shape_.q_size());
    for (float& v : qkv_.span()) v = uniform(random);
    std::fill_n(stream_.data(), stream_.size(), 1.0f);
    for (size_t i = 0; i < shape_.kv_size(); ++i) {
      scales_.v_scale.push_back(0.01f);
      scales_.v_offset.push_back(1);
    }
  }

  void run() {
    fmt::print("{}, {} threads, {}; {} query heads, {} KV heads of {}; best of {} rounds\n",
               cpu_model_name(), team_.size(), isa_name(selected_isa()), f_.heads, f_.kv_heads,
               f_.head_dim, f_.rounds);
    std::vector<std::vector<std::string>> rows = {
        {"KV cache", "tokens", "after", "us", "Gop/s", "of the peak", "GB/s", "of reading"}};
    for (const auto& [name, type] :
         {std::pair{"f16", kernels::FloatType::kF16}, std::pair{"bf16", kernels::FloatType::kBF16},
          std::pair{"int8", kernels::FloatType::kI8}})
      rows.push_back(measure(name, type));
    fmt::print("{}", format_table(rows, {false, true, true, true, true, true, true, true}));
  }

 private:
  std::vector<std::string> measure(const char* name, kernels::FloatType type) {
    const size_t keys = f_.position + f_.tokens;
    const size_t pages = blocks_for(keys);
    KvCache cache(config_, pages, type);
    std::vector<int32_t> blocks;
    OCTET_CHECK(cache.allocate(pages, blocks));
    const size_t bytes = pages * cache.page_elements() * kernels::float_type_size(type);
    for (void* pool : {cache.k_pool(0), cache.v_pool(0)})  // small numbers of every type
      std::fill_n(static_cast<char*>(pool), bytes, char{0x21});
    const std::vector<SequenceChunk> chunks = {{0, f_.tokens, f_.position, blocks.data()}};
    AttentionPlan plan;
    plan.set(shape_, chunks, team_.size());
    const KvView view{cache.k_pool(0), cache.v_pool(0), cache.page_elements(), type};
    double seconds = 1e30, peak = 0, reading = 0;
    for (size_t r = 0; r < f_.rounds; ++r) {
      peak = std::max(peak, peak_rate(team_, kernels::table().float_peak));
      reading = std::max(reading, read_rate(team_, kernels::table(), stream_));
      seconds = std::min(seconds, seconds_of([&] {
                           team_.run([&](Worker& w) {
                             plan.compute(w, shape_, view, scales_, qkv_.data(), out_.data());
                           });
                         }));
    }
    // Keys that each token sees, for every query head twice (scores, values), a multiply-add is
    // two.
    const double seen = static_cast<double>(f_.tokens) *
                        (static_cast<double>(f_.position) + static_cast<double>(f_.tokens + 1) / 2);
    const double speed = 4 * seen * static_cast<double>(shape_.q_size()) / seconds;
    const double read = 2 * static_cast<double>(bytes) / seconds;
    return {name,
            std::to_string(f_.tokens),
            std::to_string(f_.position),
            fmt::format("{:.0f}", seconds * 1e6),
            fmt::format("{:.1f}", speed / 1e9),
            fmt::format("{:.0f} %", 100 * speed / peak),
            fmt::format("{:.1f}", read / 1e9),
            fmt::format("{:.0f} %", 100 * read / reading)};
  }

  AttentionBenchFlags f_;
  ModelConfig config_;
  RankShape shape_;
  ThreadTeam team_;
  KvCacheParams scales_;
  Buffer<float> qkv_, out_;
  Buffer<float> stream_;  // read to learn the memory's speed
};

}  // namespace

void add_bench_attention(Verb program) {
  const Verb verb = program.verb("attention", "attention against the machine's limits");
  auto f = std::make_shared<AttentionBenchFlags>();
  verb.integer("--heads", f->heads, "query heads").show_default();
  verb.integer("--kv-heads", f->kv_heads, "KV heads").show_default();
  verb.integer("--head-dim", f->head_dim, "numbers of a head").show_default();
  verb.integer("--tokens", f->tokens, "query tokens").show_default();
  verb.integer("--position", f->position, "tokens before them").show_default();
  verb.integer("--rounds", f->rounds, "measurements; the best counts").show_default();
  verb.run([f] {
    if (f->heads == 0 || f->kv_heads == 0 || f->tokens == 0 || f->rounds == 0)
      throw usage_error("octet bench attention: sizes must be at least 1");
    if (f->heads % f->kv_heads != 0)
      throw usage_error("octet bench attention: --heads must be a multiple of --kv-heads");
    if (f->head_dim % 2 != 0 || f->head_dim == 0 || f->head_dim > kernels::kMaxHeadDim)
      throw usage_error(fmt::format("octet bench attention: --head-dim must be even and at most {}",
                                    kernels::kMaxHeadDim));
    AttentionBench(*f).run();
  });
}

}  // namespace octet::cli
