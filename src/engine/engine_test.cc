// The engine against a plain loop over the model, and its promises: batching, preemption and chunks
// change no token, aborted requests give everything back, and no request can harm it.
#include <atomic>
#include <cmath>

#include "src/checkpoint/testing.h"
#include "src/engine/refusal.h"
#include "src/engine/sampler.h"
#include "src/engine/testing.h"

namespace octet {
namespace {

using tests::Collector;
using tests::EngineTest;

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

TEST_F(EngineTest, WhereMasksLeaveNoTokenTheTextEnds) {
  start();
  for (const double temperature : {0.0, 1.0})
    for (const double top_p : {1.0, 0.5}) {
      SamplingParams p = greedy(10);
      p.temperature = temperature;
      p.top_p = top_p;
      p.allowed_token_ids = {65, 66};
      p.bad_words = {{65, 65}, {65, 66}, {66, 65}, {66, 66}};  // nothing follows the first
      p.prompt_logprobs = 0;
      p.stop = {"AC", "BC"};  // holds the text back
      const RequestOutput out = run(prompts_[0], p);
      EXPECT_TRUE(out.text == "A" || out.text == "B") << out.text;
      EXPECT_EQ(out.tokens.size(), 1u);
      EXPECT_EQ(out.finish, FinishReason::kStop);
      EXPECT_TRUE(std::holds_alternative<std::monostate>(out.stop_reason));
      EXPECT_EQ(out.prompt_logprobs.size(), prompts_[0].size());
    }
  expect_idle();
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
          const int32_t token = Sampler(p, prompt, {}).sample(logits, &logprob).value();
          EXPECT_GE(token, 0);
          EXPECT_LT(token, 100);
          EXPECT_FALSE(std::isnan(logprob.logprob));
          EXPECT_EQ(logprob.top.size(), 4u);
        }
}

// A weight that is NaN ends requests with an error instead of one token again and again.
class BrokenModel : public EngineTest {
 protected:
  BrokenModel() : EngineTest(damaged()) {}
  static fs::path damaged() {
    static const octet::tests::TempFolder dir("engine_nan");
    octet::tests::EditedModel model("llama_fp16");
    model.at("model.layers.1.mlp.up_proj.weight").data[1] = std::byte{0x7e};  // of a float16
    model.write(dir.path());
    return dir.path();
  }
};

TEST_F(BrokenModel, RequestsEndWithAnErrorThatSaysWhatToDo) {
  start();
  SamplingParams with_prompt = greedy(8);
  with_prompt.prompt_logprobs = 1;
  for (const SamplingParams& p : {greedy(8), with_prompt}) {
    const RequestOutput out = run(prompts_[0], p);
    EXPECT_EQ(out.finish, FinishReason::kError);
    EXPECT_TRUE(out.tokens.empty());
    EXPECT_NE(out.error.find("octet check"), std::string::npos) << out.error;
  }
  expect_idle();
}

// A request that comes while the engine ends others, just before it stops, ends like them.
TEST_F(EngineTest, NothingSubmittedAtTheEndIsForgotten) {
  class Late final : public OutputSink {
   public:
    void on_output(RequestOutput output) override {
      if (!output.finish) return;
      aborted_.wait(false);  // the test still uses the engine before
      std::thread destroyer;
      while (true) {  // until the engine is told to stop
        const auto sink = std::make_shared<Collector>();
        if (!engine_->submit({{1}, SamplingParams(), sink})) break;
        late_.push_back(sink);
        if (!destroyer.joinable()) destroyer = std::thread([this] { owner_->reset(); });
        std::this_thread::sleep_for(std::chrono::milliseconds(1));
      }
      destroyer_ = std::move(destroyer);
      has_destroyer_ = true;
    }
    std::unique_ptr<Engine>* owner_ = nullptr;
    Engine* engine_ = nullptr;
    std::vector<std::shared_ptr<Collector>> late_;
    std::thread destroyer_;
    std::atomic<bool> aborted_{false};
    std::atomic<bool> has_destroyer_{false};
  };
  start(64, 16, 1 << 20);
  const auto sink = std::make_shared<Late>();
  sink->owner_ = &engine_;
  sink->engine_ = engine_.get();
  const auto id = engine_->submit({prompts_[0], letters(1, 100), sink});
  engine_->abort(*id);
  sink->aborted_ = true;
  sink->aborted_.notify_all();
  for (int i = 0; i < 6000 && !sink->has_destroyer_; ++i)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  ASSERT_TRUE(sink->has_destroyer_);
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
  eos_ = {2};
  start();
  using Field = Refusal::Field;
  const auto refused_field = [&](std::vector<int32_t> prompt, SamplingParams p) {
    try {
      submit(std::move(prompt), std::move(p));
    } catch (const RequestError& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kUsage);
      return std::optional(e.why().field);
    }
    return std::optional<Field>();
  };
  EXPECT_EQ(refused_field({}, greedy(1)), Field::kPrompt);
  EXPECT_EQ(refused_field({160}, greedy(1)), Field::kPrompt);
  EXPECT_EQ(refused_field({-1}, greedy(1)), Field::kPrompt);
  EXPECT_EQ(refused_field({1}, greedy(128)), Field::kLength);
  EXPECT_EQ(refused_field({1}, greedy(0)), Field::kMaxTokens);
  SamplingParams p = greedy(1);
  p.stop_token_ids = {160};
  EXPECT_EQ(refused_field({1}, p), Field::kStopTokens);
  p = greedy(1);
  p.logit_bias = {{1000, 1.0f}};
  EXPECT_EQ(refused_field({1}, p), Field::kLogitBias);
  p = greedy(1);
  p.bad_words = {{}};
  EXPECT_EQ(refused_field({1}, p), Field::kBadWords);
  p = greedy(1);
  p.stop = {""};
  EXPECT_EQ(refused_field({1}, p), Field::kStop);
  p = greedy(3);
  p.allowed_token_ids = {2};
  p.min_tokens = 1;  // masks the eos
  EXPECT_EQ(refused_field({1}, p), Field::kAllowedTokens);
  const auto range = [&](double SamplingParams::*member, double value) {
    SamplingParams wrong = greedy(1);
    wrong.*member = value;
    return refused_field({1}, wrong);
  };
  for (const double value : {-1.0, double{NAN}, double{INFINITY}}) {
    EXPECT_EQ(range(&SamplingParams::temperature, value), Field::kTemperature);
    EXPECT_EQ(range(&SamplingParams::top_p, value), Field::kTopP);
    EXPECT_EQ(range(&SamplingParams::min_p, value), Field::kMinP);
    EXPECT_EQ(range(&SamplingParams::repetition_penalty, value), Field::kRepetitionPenalty);
  }
  EXPECT_EQ(range(&SamplingParams::top_p, 0), Field::kTopP);
  EXPECT_EQ(range(&SamplingParams::repetition_penalty, 1e-300), Field::kRepetitionPenalty);
}

}  // namespace
}  // namespace octet
