// For tests of the engine: what a request's sink receives, and an engine on a tiny model.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "src/base/error.h"
#include "src/base/json.h"
#include "src/engine/engine.h"
#include "src/text/testing.h"

namespace octet::tests {

inline const fs::path kLlama = fs::path(OCTET_SOURCE_DIR) / "tests/golden/llama_fp16";
inline constexpr auto kPatience = std::chrono::seconds(60);

// Gathers what the engine says of one request.
class Collector final : public OutputSink {
 public:
  void on_output(RequestOutput o) override {
    std::unique_lock lock(mutex_);
    ++outputs_;
    all_.text += o.text;
    all_.tokens.insert(all_.tokens.end(), o.tokens.begin(), o.tokens.end());
    all_.logprobs.insert(all_.logprobs.end(), o.logprobs.begin(), o.logprobs.end());
    if (!o.prompt_logprobs.empty()) all_.prompt_logprobs = o.prompt_logprobs;
    if (o.finish) {
      EXPECT_FALSE(all_.finish) << "finished twice";
      all_.finish = o.finish;
      all_.stop_reason = o.stop_reason;
      all_.error = o.error;
    }
    changed_.notify_all();
    EXPECT_TRUE(released_.wait_for(lock, kPatience, [&] { return !held_; }));
  }
  // Outputs, and with them the engine, wait from the first one on until release().
  void hold() { held_ = true; }
  void release() {
    const std::lock_guard lock(mutex_);
    held_ = false;
    released_.notify_all();
  }
  RequestOutput wait() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, kPatience, [&] { return all_.finish.has_value(); }));
    return all_;
  }
  void wait_for_first() {
    std::unique_lock lock(mutex_);
    EXPECT_TRUE(changed_.wait_for(lock, kPatience, [&] { return outputs_ > 0; }));
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_, released_;
  RequestOutput all_;
  size_t outputs_ = 0;
  bool held_ = false;
};

class EngineTest : public ::testing::Test {
 protected:
  explicit EngineTest(const fs::path& folder = kLlama / "model")
      : folder_(std::make_shared<ModelFolder>(folder)) {}

  void start(size_t kv_blocks = 64, size_t max_sequences = 16, size_t max_queue = 64) {
    EngineOptions o;
    o.max_sequences = max_sequences;
    o.max_batched_tokens = 64;
    o.max_queue = max_queue;
    o.max_model_len = 128;
    o.kv_blocks = kv_blocks;
    o.kv_type = cache_type();
    o.eos_ids = eos_;
    engine_ = std::make_unique<Engine>(model_, &tokenizer_, o);
  }

  std::shared_ptr<Collector> submit(std::vector<int32_t> prompt, SamplingParams p) {
    auto sink = std::make_shared<Collector>();
    id_ = engine_->submit({std::move(prompt), std::move(p), sink});
    return id_ ? sink : nullptr;
  }
  // A request that is running, with the engine waiting for the sink's release().
  std::shared_ptr<Collector> submit_held(std::vector<int32_t> prompt, SamplingParams p) {
    auto sink = std::make_shared<Collector>();
    sink->hold();
    id_ = engine_->submit({std::move(prompt), std::move(p), sink});
    sink->wait_for_first();
    return sink;
  }
  RequestOutput run(std::vector<int32_t> prompt, SamplingParams p) {
    return submit(std::move(prompt), std::move(p))->wait();
  }

  kernels::FloatType cache_type() const { return kv_type(*folder_, kernels::FloatType::kBF16); }

  // The likeliest tokens, one after another, without the engine.
  std::vector<int32_t> argmax_loop(std::vector<int32_t> tokens, size_t count) {
    KvCache cache(folder_->config(), 4, cache_type());
    std::vector<int32_t> blocks, out;
    EXPECT_TRUE(cache.allocate(4, blocks));
    size_t done = 0;
    while (out.size() < count) {
      Batch batch;
      const size_t n = std::min(tokens.size() - done, model_.max_rows());
      batch.add(std::span(tokens).subspan(done, n), done, blocks.data(), out.empty() ? 0 : 1);
      batch.logit_rows = {n - 1};
      const auto logits = model_.forward(batch, cache);
      done += n;
      if (done < tokens.size()) continue;
      out.push_back(
          static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
      tokens.push_back(out.back());
    }
    return out;
  }

  static SamplingParams greedy(size_t max_tokens) {
    SamplingParams p;
    p.temperature = 0;
    p.max_tokens = max_tokens;
    return p;
  }
  // Lower-case letters only, so that every token is a character.
  static SamplingParams letters(int64_t seed, size_t max_tokens) {
    SamplingParams p;
    p.seed = seed;
    p.max_tokens = max_tokens;
    std::vector<int32_t> letters;
    for (int32_t id = 'a'; id <= 'z'; ++id) letters.push_back(id);
    p.allowed_token_ids = std::move(letters);
    return p;
  }

  void expect_idle() {
    engine_->drain(30);
    const EngineStats s = engine_->stats();
    EXPECT_EQ(s.running, 0u);
    EXPECT_EQ(s.waiting, 0u);
    EXPECT_EQ(s.kv_usage, 0);
  }

  const std::vector<std::vector<int32_t>> prompts_ =
      parse_json(read_text(kLlama / "calib_tokens.json"), "calib_tokens.json")
          .get<std::vector<std::vector<int32_t>>>();
  std::shared_ptr<const ModelFolder> folder_;
  ThreadTeam team_{2};
  Transformer model_{folder_, team_, {.max_rows = 64}};
  text::Tokenizer tokenizer_ = text::tests::byte_level_tokenizer();
  std::vector<int32_t> eos_;
  std::unique_ptr<Engine> engine_;
  std::optional<RequestId> id_;  // of the last submit()
};

}  // namespace octet::tests
