// The engine against a plain loop over the model, and its promises: batching, preemption and chunks
// change no token, aborted requests give everything back, and no request can harm it.
#include "src/engine/engine.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <thread>

#include "src/base/error.h"
#include "src/base/json.h"
#include "src/engine/sampler.h"
#include "src/text/testing.h"

namespace octet {
namespace {

const fs::path kGolden = fs::path(OCTET_SOURCE_DIR) / "tests/golden/llama_fp16";
constexpr auto kPatience = std::chrono::seconds(60);

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

class EngineTest : public testing::Test {
 protected:
  void start(size_t kv_blocks = 64, size_t max_sequences = 16, size_t max_queue = 64) {
    EngineOptions o;
    o.max_sequences = max_sequences;
    o.max_batched_tokens = 64;
    o.max_queue = max_queue;
    o.max_model_len = 128;
    o.kv_blocks = kv_blocks;
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

  // The likeliest tokens, one after another, without the engine.
  std::vector<int32_t> argmax_loop(std::vector<int32_t> tokens, size_t count) {
    KvCache cache(folder_->config(), 4, kernels::FloatType::kBF16);
    std::vector<int32_t> blocks, out;
    EXPECT_TRUE(cache.allocate(4, blocks));
    size_t done = 0;
    while (out.size() < count) {
      Batch batch;
      batch.add(std::span(tokens).subspan(done), done, blocks.data());
      batch.logit_rows = {tokens.size() - done - 1};
      const auto logits = model_.forward(batch, cache);
      done = tokens.size();
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
    for (int32_t id = 'a'; id <= 'z'; ++id) p.allowed_token_ids.push_back(id);
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
      parse_json(read_text(kGolden / "calib_tokens.json"), "calib_tokens.json")
          .get<std::vector<std::vector<int32_t>>>();
  std::shared_ptr<const ModelFolder> folder_ = std::make_shared<ModelFolder>(kGolden / "model");
  ThreadTeam team_{2};
  Transformer model_{folder_, team_, 64};
  text::Tokenizer tokenizer_ = text::testing::byte_level_tokenizer();
  std::vector<int32_t> eos_;
  std::unique_ptr<Engine> engine_;
  std::optional<RequestId> id_;  // of the last submit()
};

TEST_F(EngineTest, GreedyIsTheArgmaxOfTheModel) {
  const auto expected = argmax_loop(prompts_[0], 40);
  start();
  const RequestOutput out = run(prompts_[0], greedy(40));
  EXPECT_EQ(out.tokens, expected);
  EXPECT_EQ(out.finish, FinishReason::kLength);
  expect_idle();
  EXPECT_EQ(engine_->stats().prompt_tokens, prompts_[0].size());
  EXPECT_EQ(engine_->stats().generation_tokens, 40u);
}

TEST_F(EngineTest, CompanyChangesNothing) {
  start();
  std::vector<RequestOutput> alone;
  const auto params = [&](size_t i) {
    SamplingParams p = greedy(24);
    if (i % 2 == 1) p.temperature = 1, p.seed = static_cast<int64_t>(i), p.top_p = 0.9;
    p.logprobs = 2;
    return p;
  };
  for (size_t i = 0; i < prompts_.size(); ++i) alone.push_back(run(prompts_[i], params(i)));
  std::vector<std::shared_ptr<Collector>> together;
  for (size_t i = 0; i < prompts_.size(); ++i) together.push_back(submit(prompts_[i], params(i)));
  for (size_t i = 0; i < prompts_.size(); ++i) {
    const RequestOutput out = together[i]->wait();
    EXPECT_EQ(out.tokens, alone[i].tokens) << i;
    EXPECT_EQ(out.text, alone[i].text) << i;
    ASSERT_EQ(out.logprobs.size(), 24u);
    for (size_t t = 0; t < 24; ++t)
      EXPECT_EQ(out.logprobs[t].logprob, alone[i].logprobs[t].logprob);
  }
  expect_idle();
}

TEST_F(EngineTest, PromptsLongerThanAStepAreComputedInChunks) {
  std::vector<int32_t> prompt;
  while (prompt.size() < 100) prompt.insert(prompt.end(), prompts_[0].begin(), prompts_[0].end());
  prompt.resize(100);
  start();
  SamplingParams p = greedy(5);
  p.prompt_logprobs = 1;
  const RequestOutput out = run(prompt, p);
  EXPECT_EQ(out.tokens, run(prompt, greedy(5)).tokens);
  ASSERT_EQ(out.prompt_logprobs.size(), prompt.size());
  EXPECT_FALSE(out.prompt_logprobs[0]);
  for (size_t i = 1; i < prompt.size(); ++i) EXPECT_EQ(out.prompt_logprobs[i]->token, prompt[i]);
}

TEST_F(EngineTest, AbortGivesEverythingBack) {
  start();
  const auto sink = submit_held(prompts_[0], greedy(100));
  const RequestId running = *id_;
  engine_->abort(running);
  sink->release();
  EXPECT_EQ(sink->wait().finish, FinishReason::kAbort);
  engine_->abort(running);   // finished already
  engine_->abort(99999999);  // never was
  expect_idle();
}

TEST_F(EngineTest, PreemptionChangesNoToken) {
  const auto run_all = [&] {
    std::vector<std::shared_ptr<Collector>> sinks;
    for (size_t i = 0; i < 6; ++i) {
      SamplingParams p = greedy(70);
      p.prompt_logprobs = 1;
      if (i >= 3) p.temperature = 1, p.seed = 7;
      sinks.push_back(submit(prompts_[i], p));
    }
    std::vector<RequestOutput> out;
    for (const auto& s : sinks) out.push_back(s->wait());
    expect_idle();
    return out;
  };
  start(64);
  const auto roomy = run_all();
  EXPECT_EQ(engine_->stats().preemptions, 0u);
  engine_.reset();
  start(4);
  const auto tight = run_all();
  const EngineStats stats = engine_->stats();
  EXPECT_GT(stats.preemptions, 0u);
  size_t prompt_tokens = 0;
  for (size_t i = 0; i < 6; ++i) {
    EXPECT_EQ(tight[i].tokens, roomy[i].tokens) << i;
    EXPECT_EQ(tight[i].finish, FinishReason::kLength);
    ASSERT_EQ(tight[i].prompt_logprobs.size(), prompts_[i].size());
    for (size_t t = 1; t < prompts_[i].size(); ++t) {
      EXPECT_EQ(tight[i].prompt_logprobs[t]->token, prompts_[i][t]);
      EXPECT_EQ(tight[i].prompt_logprobs[t]->logprob, roomy[i].prompt_logprobs[t]->logprob);
    }
    prompt_tokens += prompts_[i].size();
  }
  EXPECT_EQ(stats.prompt_tokens, prompt_tokens);  // what is computed again counts once
  EXPECT_EQ(stats.generation_tokens, 6u * 70);
}

TEST_F(EngineTest, SeedsDecide) {
  start();
  const auto tokens = [&](std::optional<int64_t> seed) {
    SamplingParams p;
    p.seed = seed;
    p.max_tokens = 30;
    return run(prompts_[1], p).tokens;
  };
  EXPECT_EQ(tokens(5), tokens(5));
  EXPECT_NE(tokens(5), tokens(6));
  EXPECT_NE(tokens({}), tokens({}));
}

TEST_F(EngineTest, StopStringsAreFoundAcrossTokens) {
  start();
  const std::string text = run(prompts_[0], letters(3, 40)).text;
  ASSERT_EQ(text.size(), 40u);
  SamplingParams p = letters(3, 40);
  const std::string stop = text.substr(17, 3);
  p.stop = {"no such text", stop};
  const RequestOutput out = run(prompts_[0], p);
  EXPECT_EQ(out.text, text.substr(0, text.find(stop)));
  EXPECT_EQ(out.finish, FinishReason::kStop);
  EXPECT_EQ(std::get<std::string>(out.stop_reason), stop);
  p.include_stop = true;
  EXPECT_EQ(run(prompts_[0], p).text, text.substr(0, text.find(stop) + 3));
  // What was held back as a possible beginning of a stop string comes at the end.
  p.stop = {text.substr(37) + "~"};
  EXPECT_EQ(run(prompts_[0], p).text, text);
}

TEST_F(EngineTest, EndOfTextMinTokensAndIgnoreEos) {
  const auto tokens = argmax_loop(prompts_[2], 20);
  eos_ = {tokens[4]};
  const size_t first =
      static_cast<size_t>(std::find(tokens.begin(), tokens.end(), tokens[4]) - tokens.begin());
  start();
  RequestOutput out = run(prompts_[2], greedy(20));
  EXPECT_EQ(out.tokens, std::vector<int32_t>(tokens.begin(),
                                             tokens.begin() + static_cast<ptrdiff_t>(first) + 1));
  EXPECT_EQ(out.finish, FinishReason::kStop);
  EXPECT_TRUE(std::holds_alternative<std::monostate>(out.stop_reason));

  SamplingParams p = greedy(20);
  p.ignore_eos = true;
  out = run(prompts_[2], p);
  EXPECT_EQ(out.tokens, tokens);
  EXPECT_EQ(out.finish, FinishReason::kLength);

  p.stop_token_ids = {tokens[4]};
  out = run(prompts_[2], p);
  EXPECT_EQ(out.tokens.size(), first + 1);
  p.ignore_eos = false;
  p.min_tokens = 12;
  out = run(prompts_[2], p);
  EXPECT_GE(out.tokens.size(), 12u);
  EXPECT_EQ(std::find(out.tokens.begin(), out.tokens.begin() + 12, tokens[4]),
            out.tokens.begin() + 12);
}

TEST_F(EngineTest, MasksAndBiases) {
  start();
  SamplingParams p = greedy(10);
  p.allowed_token_ids = {65};
  EXPECT_EQ(run(prompts_[0], p).text, "AAAAAAAAAA");
  p = greedy(10);
  p.logit_bias = {{66, 100.0f}};
  EXPECT_EQ(run(prompts_[0], p).text, "BBBBBBBBBB");
  p.allowed_token_ids = {65, 66};
  p.bad_words = {{66, 66}};
  EXPECT_EQ(run(prompts_[0], p).text, "BABABABABA");
}

TEST_F(EngineTest, MaskingEveryTokenIsNoCrash) {
  eos_ = {2};
  start();
  SamplingParams p;
  p.allowed_token_ids = {2};
  p.min_tokens = p.max_tokens = 3;
  EXPECT_EQ(run(prompts_[0], p).tokens.size(), 3u);
  p.top_p = 0.5;
  EXPECT_EQ(run(prompts_[0], p).tokens.size(), 3u);
}

TEST(Sampler, LogitsOfABrokenModelAreNoCrash) {
  const std::vector<int32_t> prompt = {1, 2, 3};
  for (const double temperature : {0.0, 1.0})
    for (const double penalty : {kMinRepetitionPenalty, 1.0, kMaxRepetitionPenalty})
      for (const float bad : {NAN, INFINITY, -INFINITY, 3e38f, -3e38f})
        for (const size_t share : {size_t{1}, size_t{3}}) {  // all of them, every third
          SamplingParams p;
          p.temperature = temperature;
          p.repetition_penalty = penalty;
          p.top_k = 5;
          p.top_p = 0.9;
          p.seed = 1;
          p.logprobs = 4;
          std::vector<float> logits(100, 0.5f);
          for (size_t i = 0; i < logits.size(); i += share) logits[i] = bad;
          Sampler::make_safe(logits);
          TokenLogprob logprob;
          const int32_t token = Sampler(p, prompt, {}).sample(logits, &logprob);
          EXPECT_GE(token, 0);
          EXPECT_LT(token, 100);
          EXPECT_FALSE(std::isnan(logprob.logprob));
          EXPECT_EQ(logprob.top.size(), 4u);
        }
}

// A request that comes while the engine ends others, just before it stops, ends like them.
TEST_F(EngineTest, NothingSubmittedAtTheEndIsForgotten) {
  class Late final : public OutputSink {
   public:
    void on_output(RequestOutput output) override {
      if (!output.finish) return;
      std::thread destroyer;
      while (true) {  // until the engine is told to stop
        const auto sink = std::make_shared<Collector>();
        if (!engine_->submit({{1}, SamplingParams(), sink})) break;
        late_.push_back(sink);
        if (!destroyer.joinable()) destroyer = std::thread([this] { owner_->reset(); });
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      destroyer_ = std::move(destroyer);
    }
    std::unique_ptr<Engine>* owner_ = nullptr;
    Engine* engine_ = nullptr;
    std::vector<std::shared_ptr<Collector>> late_;
    std::thread destroyer_;
  };
  start(64, 16, 1 << 20);
  const auto sink = std::make_shared<Late>();
  sink->owner_ = &engine_;
  sink->engine_ = engine_.get();
  const auto id = engine_->submit({prompts_[0], letters(1, 100), sink});
  engine_->abort(*id);
  for (int i = 0; i < 6000 && !sink->destroyer_.joinable(); ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  ASSERT_TRUE(sink->destroyer_.joinable());
  sink->destroyer_.join();
  ASSERT_FALSE(sink->late_.empty());
  for (const auto& late : sink->late_) EXPECT_EQ(late->wait().finish, FinishReason::kAbort);
}

TEST_F(EngineTest, TheQueueIsBounded) {
  start(64, 1, 2);
  const auto first = submit_held(prompts_[0], greedy(100));
  std::vector<std::shared_ptr<Collector>> sinks = {first, submit(prompts_[0], greedy(10)),
                                                   submit(prompts_[0], greedy(10))};
  EXPECT_EQ(submit(prompts_[0], greedy(10)), nullptr);
  first->release();
  for (const auto& s : sinks) EXPECT_EQ(s->wait().finish, FinishReason::kLength);
  expect_idle();
}

TEST_F(EngineTest, DrainAbortsWhatIsLeft) {
  start(64, 1);  // one after another: work for much longer than drain() takes to ask for the end
  std::vector<std::shared_ptr<Collector>> sinks;
  for (int i = 0; i < 60; ++i) sinks.push_back(submit(prompts_[0], greedy(110)));
  engine_->drain(0);
  for (const auto& s : sinks) s->wait();
  EXPECT_EQ(sinks.back()->wait().finish, FinishReason::kAbort);
  expect_idle();
  EXPECT_EQ(run(prompts_[0], greedy(2)).tokens.size(), 2u);  // and goes on
}

TEST_F(EngineTest, RefusesWhatCanNeverRun) {
  start();
  const auto field = [&](std::vector<int32_t> prompt, SamplingParams p) {
    try {
      submit(std::move(prompt), std::move(p));
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kUsage);
      return e.field_name();
    }
    return std::string("accepted");
  };
  EXPECT_EQ(field({}, greedy(1)), "prompt");
  EXPECT_EQ(field({160}, greedy(1)), "prompt");
  EXPECT_EQ(field({-1}, greedy(1)), "prompt");
  EXPECT_EQ(field({1}, greedy(128)), "input_tokens");
  EXPECT_EQ(field({1}, greedy(0)), "max_tokens");
  SamplingParams p = greedy(1);
  p.stop_token_ids = {160};
  EXPECT_EQ(field({1}, p), "stop_token_ids");
  p = greedy(1);
  p.logit_bias = {{1000, 1.0f}};
  EXPECT_EQ(field({1}, p), "logit_bias");
  p = greedy(1);
  p.bad_words = {{}};
  EXPECT_EQ(field({1}, p), "bad_words");
  p = greedy(1);
  p.stop = {""};
  EXPECT_EQ(field({1}, p), "stop");
  const auto range = [&](double SamplingParams::*member, double value) {
    SamplingParams wrong = greedy(1);
    wrong.*member = value;
    return field({1}, wrong);
  };
  for (const double value : {-1.0, double{NAN}, double{INFINITY}}) {
    EXPECT_EQ(range(&SamplingParams::temperature, value), "temperature");
    EXPECT_EQ(range(&SamplingParams::top_p, value), "top_p");
    EXPECT_EQ(range(&SamplingParams::min_p, value), "min_p");
    EXPECT_EQ(range(&SamplingParams::repetition_penalty, value), "repetition_penalty");
  }
  EXPECT_EQ(range(&SamplingParams::top_p, 0), "top_p");
  EXPECT_EQ(range(&SamplingParams::repetition_penalty, 1e-300), "repetition_penalty");
}

}  // namespace
}  // namespace octet
