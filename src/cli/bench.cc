// `octet bench`: kernels and sums against the machine's limits, offline throughput, models to
// measure with.
#include "src/cli/bench.h"

#include <fmt/format.h>

#include <chrono>
#include <memory>
#include <random>

#include "src/base/error.h"
#include "src/base/progress.h"
#include "src/cli/ranks.h"
#include "src/cli/runtime.h"
#include "src/engine/step.h"
#include "src/machine/cpu.h"

namespace octet::cli {
namespace {

struct OfflineFlags {
  std::string model;
  size_t prompt = 512, output = 128, batch = 1, repeat = 3;
  size_t ranks = 1;
  std::string head = "screened";
};

void check_offline_flags(const OfflineFlags& f) {
  if (f.prompt == 0 || f.output == 0 || f.batch == 0 || f.repeat == 0)
    throw usage_error("octet bench offline: sizes must be at least 1");
}

// What greedy decoding does with row `i` of the logits.
void take_likeliest(const Transformer& model, std::span<float> logits, size_t i) {
  const size_t vocab = static_cast<size_t>(model.config().vocab_size);
  SamplingParams greedy;
  greedy.temperature = 0;
  Sampler sampler(greedy, {}, {});
  draw(sampler, model, i, logits.subspan(i * vocab, vocab), nullptr);
}

// Prefills `batch` prompts, then decodes them together, straight on the model: no scheduler.
void run_offline(const OfflineFlags& f, Communicator& ranks) {
  const auto folder = std::make_shared<const ModelFolder>(f.model);
  ThreadTeam team;
  constexpr size_t kChunk = 512;
  Transformer model(
      folder, team,
      {.max_rows = std::max(kChunk, f.batch), .ranks = &ranks, .head = head_mode(f.head)});
  const size_t pages = blocks_for(f.prompt + f.output);
  KvCache cache(model.shape(), pages * f.batch, kv_type(*folder, kernels::FloatType::kBF16));
  ranks.meet();
  if (ranks.rank() != 0) return model.follow(cache);
  std::vector<std::vector<int32_t>> blocks(f.batch);
  for (auto& b : blocks)
    if (!cache.allocate(pages, b)) throw Error("no memory for the KV cache");
  std::mt19937 random(1);
  std::uniform_int_distribution<int32_t> any(0,
                                             static_cast<int32_t>(model.config().vocab_size) - 1);
  std::vector<int32_t> ids(f.prompt);
  for (int32_t& id : ids) id = any(random);

  double best_prefill = 1e30, best_decode = 1e30;
  for (size_t turn = 0; turn < f.repeat; ++turn) {
    best_prefill =
        std::min(best_prefill, seconds_of([&] {
                   for (size_t s = 0; s < f.batch; ++s)
                     for (size_t at = 0; at < f.prompt; at += kChunk) {
                       Batch batch;
                       const size_t count = std::min(kChunk, f.prompt - at);
                       batch.add(std::span(ids).subspan(at, count), at, blocks[s].data());
                       batch.logit_rows = {count - 1};
                       model.forward(batch, cache);
                     }
                 }));
    best_decode = std::min(best_decode, seconds_of([&] {
                             for (size_t t = 0; t < f.output; ++t) {
                               Batch batch;
                               for (size_t s = 0; s < f.batch; ++s) {
                                 const int32_t id = ids[t % ids.size()];
                                 batch.add(std::span(&id, 1), f.prompt + t, blocks[s].data(), 1);
                                 batch.logit_rows.push_back(s);
                                 batch.largest.push_back(true);
                               }
                               const std::span<float> logits = model.forward(batch, cache);
                               team.run([&](Worker& w) {
                                 for (size_t s = w.id(); s < f.batch; s += w.count())
                                   take_likeliest(model, logits, s);
                               });
                             }
                           }));
  }
  model.release();
  const double prompt_tokens = static_cast<double>(f.prompt * f.batch);
  const double output_tokens = static_cast<double>(f.output * f.batch);
  const double weights = static_cast<double>(model.weight_bytes());
  fmt::print("{}: {}{} threads, {}, best of {}\n", f.model,
             ranks.size() > 1 ? fmt::format("{} ranks of ", ranks.size()) : "", team.size(),
             isa_name(selected_isa()), f.repeat);
  fmt::print("prefill  {} x {} tokens: {:.1f} tokens/s\n", f.batch, f.prompt,
             prompt_tokens / best_prefill);
  fmt::print(
      "decode   {} x {} tokens: {:.1f} tokens/s, {:.2f} ms a step, weights read at {}/s{}\n",
      f.batch, f.output, output_tokens / best_decode,
      1000 * best_decode / static_cast<double>(f.output),
      format_bytes(static_cast<uint64_t>(weights * static_cast<double>(f.output) / best_decode)),
      ranks.size() > 1 ? " by the first rank" : "");
}

}  // namespace

double seconds_of(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

void add_bench_offline(Verb program) {
  const Verb verb = program.verb("offline", "prefill and decode speed of a model");
  auto f = std::make_shared<OfflineFlags>();
  verb.text("model,--model", f->model, "the model folder").required();
  verb.integer("--prompt", f->prompt, "tokens of each prompt").show_default();
  verb.integer("--output", f->output, "tokens to generate").show_default();
  verb.integer("--batch", f->batch, "sequences at once").show_default();
  add_head_flag(verb, f->head);
  verb.integer("--repeat", f->repeat, "the best of so many runs").show_default();
  add_ranks_flag(verb, f->ranks);
  verb.run([f] {
    check_offline_flags(*f);
    on_ranks(f->ranks, [&](Communicator& ranks) { run_offline(*f, ranks); });
  });
}

void add_bench(Verb program) {
  const Verb verb = program.verb("bench", "speed of kernels and models");
  verb.needs_verb();
  add_bench_machine(verb);
  add_bench_kernels(verb);
  add_bench_attention(verb);
  add_bench_offline(verb);
  add_bench_sums(verb);
  add_bench_make_model(verb);
}

}  // namespace octet::cli
