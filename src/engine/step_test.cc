// One step after another on the test's own thread: what is wanted of the model, and what its rows
// become.
#include "src/engine/step.h"

#include "src/engine/testing.h"

namespace octet {
namespace {

using tests::Collector;

const std::vector<int32_t> kNoEos;

Request request_of(std::vector<int32_t> prompt, SamplingParams p = {}) {
  Request request;
  request.prompt = std::move(prompt);
  request.sampling = std::move(p);
  return request;
}

TEST(BatchOf, WantsLastRowsAndThoseThatScoreAPrompt) {
  Sequence scored(1, request_of({5, 6, 7, 8}), nullptr, kNoEos);
  Sequence preempted(2, request_of({1, 2}), nullptr, kNoEos);  // had generated 3 and 4
  preempted.tokens = {1, 2, 3, 4};
  preempted.blocks = {7};
  Sequence begun(3, request_of({9, 10, 11}), nullptr, kNoEos);
  Step step;
  step.chunks = {{&scored, 1, 3, true}, {&preempted, 0, 4, false}, {&begun, 0, 2, false}};

  const StepBatch b = batch_of(step);
  EXPECT_EQ(b.batch.tokens, (std::vector<int32_t>{6, 7, 8, 1, 2, 3, 4, 9, 10}));
  ASSERT_EQ(b.batch.chunks.size(), 3u);
  EXPECT_EQ(b.batch.chunks[0].position, 1u);
  EXPECT_EQ(b.batch.chunks[0].generated, 0u);
  EXPECT_EQ(b.batch.chunks[1].generated, 2u);
  EXPECT_EQ(b.batch.chunks[1].blocks, preempted.blocks.data());
  EXPECT_EQ(b.batch.chunks[2].generated, 0u);
  // 6 scores 7, 7 scores 8; what follows 8 and 4 is drawn; 11 is still to come.
  EXPECT_EQ(b.batch.logit_rows, (std::vector<size_t>{0, 1, 2, 6}));
  ASSERT_EQ(b.rows.size(), 4u);
  const size_t positions[] = {1, 2, 3, 3};
  const bool draws[] = {false, false, true, true};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(b.rows[i].sequence, i < 3 ? &scored : &preempted) << i;
    EXPECT_EQ(b.rows[i].position, positions[i]) << i;
    EXPECT_EQ(b.rows[i].draws, draws[i]) << i;
  }
}

class Counted final : public EngineObserver {
 public:
  void on_step(size_t, size_t) override {}
  void on_first_token(double) override { ++first; }
  void on_next_token(double seconds) override {
    ++next;
    EXPECT_GE(seconds, 0);
  }
  void on_finish(const Request&, size_t, FinishReason, const RequestTimes&) override {}
  size_t first = 0, next = 0;
};

class StepTest : public tests::EngineTest {
 protected:
  std::shared_ptr<Collector> add(std::vector<int32_t> prompt, SamplingParams p) {
    auto sink = std::make_shared<Collector>();
    Request request = request_of(std::move(prompt), std::move(p));
    request.sink = sink;
    scheduler_.add(std::make_unique<Sequence>(++added_, std::move(request), nullptr, kNoEos));
    return sink;
  }
  // Returns how many tokens were generated.
  size_t run_all() {
    size_t generated = 0;
    while (!scheduler_.idle()) {
      const Step step = scheduler_.schedule();
      generated += runner_.deliver(runner_.compute(step), [&](Sequence& s, RequestOutput out) {
        if (out.finish) scheduler_.finish(s);
        s.request.sink->on_output(std::move(out));
      });
      scheduler_.remove_finished();
    }
    return generated;
  }

  Counted counted_;
  KvCache cache_{model_.shape(), 16, cache_type()};
  Scheduler scheduler_{4, 64, cache_};
  StepRunner runner_{model_, cache_, {}, &counted_};
  RequestId added_ = 0;
};

TEST_F(StepTest, TokensAreThoseOfTheModel) {
  const auto first = argmax_loop(prompts_[0], 10), second = argmax_loop(prompts_[1], 7);
  SamplingParams scored = greedy(7);
  scored.prompt_logprobs = 0;
  const auto a = add(prompts_[0], greedy(10)), b = add(prompts_[1], scored);
  EXPECT_EQ(run_all(), 17u);
  EXPECT_EQ(a->wait().tokens, first);
  EXPECT_EQ(a->wait().finish, FinishReason::kLength);
  EXPECT_EQ(b->wait().tokens, second);
  const auto prompt = b->wait().prompt_logprobs;
  ASSERT_EQ(prompt.size(), prompts_[1].size());
  EXPECT_FALSE(prompt[0]);
  for (size_t i = 1; i < prompt.size(); ++i) EXPECT_EQ(prompt[i]->token, prompts_[1][i]);
  EXPECT_EQ(counted_.first, 2u);
  EXPECT_EQ(counted_.next, 9u + 6u);
  EXPECT_EQ(cache_.free_blocks(), cache_.blocks());
}

TEST_F(StepTest, RowsThatGiveNoToken) {
  Sequence broken(1, request_of({1, 2, 3}), nullptr, kNoEos);
  Sequence scored(2, request_of({1, 2, 3}), nullptr, kNoEos);
  Sequence masked(3, request_of({1}), nullptr, kNoEos);
  std::vector<StepRow> rows;
  for (size_t i = 0; i < 3; ++i)
    rows.push_back({.sequence = &broken, .position = i, .draws = i == 2, .broken = true});
  rows.push_back({.sequence = &scored, .position = 0, .draws = false});
  rows.back().logprob.token = 2;
  rows.push_back({.sequence = &masked, .position = 0, .draws = true});

  std::vector<std::pair<const Sequence*, RequestOutput>> sent;
  const size_t generated = runner_.deliver(rows, [&](Sequence& s, RequestOutput out) {
    s.finished = out.finish.has_value();
    sent.emplace_back(&s, std::move(out));
  });
  EXPECT_EQ(generated, 0u);
  ASSERT_EQ(sent.size(), 2u);
  EXPECT_EQ(sent[0].first, &broken);  // once
  EXPECT_EQ(sent[0].second.finish, FinishReason::kError);
  EXPECT_NE(sent[0].second.error.find("octet check"), std::string::npos) << sent[0].second.error;
  EXPECT_EQ(sent[1].first, &masked);
  EXPECT_EQ(sent[1].second.finish, FinishReason::kStop);
  ASSERT_EQ(scored.prompt_logprobs.size(), 2u);
  EXPECT_FALSE(scored.prompt_logprobs[0]);
  EXPECT_EQ(scored.prompt_logprobs[1]->token, 2);
  EXPECT_EQ(counted_.first + counted_.next, 0u);
}

}  // namespace
}  // namespace octet
