// What each step computes, decided without a model: steps written out as text, and what holds for
// any mixture of requests.
#include "src/engine/scheduler.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>
#include <string>

namespace octet {
namespace {

static_assert(kBlockTokens == 32, "the page counts below are for pages of 32 tokens");

// Sequences are called A, B, ... in order of arrival.
class SchedulerTest : public ::testing::Test {
 protected:
  void start(size_t max_sequences, size_t max_step_tokens, size_t blocks) {
    pool_ = std::make_unique<BlockPool>(blocks);
    scheduler_ = std::make_unique<Scheduler>(max_sequences, max_step_tokens, *pool_);
  }
  void arrive(size_t prompt, bool scores_prompt = false) {
    Request request;
    request.prompt.assign(prompt, 1);
    request.sampling.prompt_logprobs = scores_prompt ? 0 : -1;
    auto s = std::make_unique<Sequence>(sequences_.size(), std::move(request), nullptr, kNoEos);
    sequences_[static_cast<char>('A' + sequences_.size())] = s.get();
    scheduler_->add(std::move(s));
  }
  // The next step as "A:0+4 B:7+1": four tokens of A from its first on, one of B after seven. With
  // * rows of the prompt are scored. Whoever is computed to the end has a token more afterwards.
  std::string step() {
    step_ = scheduler_->schedule();
    std::string text;
    for (const Step::Chunk& c : step_.chunks) {
      text += fmt::format("{}{}:{}+{}{}", text.empty() ? "" : " ", name_of(c.sequence), c.position,
                          c.tokens, c.scores_prompt ? "*" : "");
      if (c.sequence->uncomputed() == 0) c.sequence->tokens.push_back(2);
    }
    return text;
  }
  std::string steps(size_t count) {
    std::string all;
    for (size_t i = 0; i < count; ++i) all += (i > 0 ? " | " : "") + step();
    return all;
  }
  void finish(char name) {
    scheduler_->finish(*sequences_.at(name));
    scheduler_->remove_finished();
  }
  std::string running() const { return names_of(scheduler_->running()); }
  std::string waiting() const { return names_of(scheduler_->waiting()); }
  char name_of(const Sequence* sequence) const { return static_cast<char>('A' + sequence->id); }

  std::unique_ptr<BlockPool> pool_;
  std::unique_ptr<Scheduler> scheduler_;
  std::map<char, Sequence*> sequences_;
  Step step_;

 private:
  inline static const std::vector<int32_t> kNoEos;

  template <class Sequences>
  std::string names_of(const Sequences& sequences) const {
    std::string names;
    for (const auto& s : sequences) names += name_of(s.get());
    return names;
  }
};

TEST_F(SchedulerTest, NothingToDo) {
  start(4, 32, 8);
  EXPECT_EQ(step(), "");
  EXPECT_TRUE(scheduler_->idle());
}

struct Arrivals {
  const char* what;
  size_t max_sequences, max_step_tokens;
  std::vector<size_t> prompts;
  std::string steps;  // the first ones
};

TEST_F(SchedulerTest, BudgetAndOrder) {
  const std::vector<Arrivals> cases = {
      {"a prompt fits into a step", 4, 32, {5}, "A:0+5 | A:5+1 | A:6+1"},
      {"a long one comes in chunks", 4, 32, {70}, "A:0+32 | A:32+32 | A:64+6 | A:70+1"},
      {"exactly a step", 4, 32, {32}, "A:0+32 | A:32+1"},
      {"what one leaves goes to the next",
       4,
       32,
       {20, 20},
       "A:0+20 B:0+12 | A:20+1 B:12+8 | "
       "A:21+1 B:20+1"},
      {"those who run come first",
       4,
       8,
       {2, 20, 2},
       "A:0+2 B:0+6 | A:2+1 B:6+7 | A:3+1 B:13+7 | A:4+1 B:20+1 C:0+2"},
      {"no more than the step holds",
       4,
       4,
       {1, 1, 1, 1, 1},
       "A:0+1 B:0+1 C:0+1 D:0+1 | A:1+1 B:1+1 C:1+1 D:1+1"},
      {"no more sequences than allowed", 2, 32, {3, 3, 3}, "A:0+3 B:0+3 | A:3+1 B:3+1"},
  };
  for (const Arrivals& c : cases) {
    SCOPED_TRACE(c.what);
    sequences_.clear();
    start(c.max_sequences, c.max_step_tokens, 64);
    for (size_t prompt : c.prompts) arrive(prompt);
    const auto bars = std::count(c.steps.begin(), c.steps.end(), '|');
    EXPECT_EQ(steps(static_cast<size_t>(bars) + 1), c.steps);
  }
}

TEST_F(SchedulerTest, WhoWaitsComesWhenOneEnds) {
  start(2, 32, 64);
  for (size_t prompt : {3, 3, 3, 3}) arrive(prompt);
  step();
  EXPECT_EQ(running(), "AB");
  EXPECT_EQ(waiting(), "CD");
  finish('B');
  EXPECT_EQ(step(), "A:3+1 C:0+3");
  finish('D');  // aborted while it waits
  finish('A');
  finish('C');
  EXPECT_TRUE(scheduler_->idle());
  EXPECT_EQ(pool_->free_blocks(), 64u);
}

TEST_F(SchedulerTest, ALongPromptLeavesTheOthersTheirTokens) {
  start(4, 8, 64);
  for (size_t prompt : {2, 2, 2}) arrive(prompt);
  step();
  // As if A had a long prompt still to compute, before B and C in the order.
  sequences_['A']->tokens.resize(30);
  EXPECT_EQ(steps(2), "A:2+6 B:2+1 C:2+1 | A:8+6 B:3+1 C:3+1");
}

TEST_F(SchedulerTest, PagesAreTakenAsTokensCome) {
  start(4, 64, 8);
  arrive(31);
  step();
  EXPECT_EQ(sequences_['A']->blocks, std::vector<int32_t>({0}));
  EXPECT_EQ(step(), "A:31+1");
  EXPECT_EQ(pool_->free_blocks(), 7u);
  EXPECT_EQ(step(), "A:32+1");
  EXPECT_EQ(sequences_['A']->blocks, std::vector<int32_t>({0, 1}));
  finish('A');
  EXPECT_EQ(pool_->free_blocks(), 8u);
}

TEST_F(SchedulerTest, AdmissionPreemptsNobody) {
  start(4, 128, 4);
  arrive(64);  // two pages, the next token in a third
  arrive(64);
  arrive(1);
  EXPECT_EQ(step(), "A:0+64");  // B and the token after its prompt need three pages
  EXPECT_EQ(step(), "A:64+1");
  EXPECT_EQ(waiting(), "BC") << "C would fit, but B came first";
  finish('A');
  EXPECT_EQ(step(), "B:0+64 C:0+1");
  EXPECT_EQ(scheduler_->preemptions(), 0u);
}

TEST_F(SchedulerTest, TheLatestArrivalGivesWay) {
  start(4, 128, 4);
  arrive(62);
  arrive(30);
  arrive(30);
  EXPECT_EQ(step(), "A:0+62 B:0+30 C:0+30");
  EXPECT_EQ(steps(2), "A:62+1 B:30+1 C:30+1 | A:63+1 B:31+1 C:31+1");
  EXPECT_EQ(pool_->free_blocks(), 0u);
  // A's 65th token needs a page: C's. B's 33rd then has none left but its own.
  EXPECT_EQ(step(), "A:64+1");
  EXPECT_EQ(running(), "A");
  EXPECT_EQ(waiting(), "BC");
  EXPECT_EQ(scheduler_->preemptions(), 2u);
  EXPECT_TRUE(sequences_['B']->blocks.empty());
  EXPECT_EQ(step(), "A:65+1") << "B's 33 tokens and the next need two pages, one is free";
  finish('A');
  // Both begin anew, with what they had generated: 30 of the prompt and 3.
  EXPECT_EQ(steps(2), "B:0+33 C:0+33 | B:33+1 C:33+1");
  EXPECT_EQ(scheduler_->preemptions(), 2u);
}

TEST_F(SchedulerTest, WhoIsLastGivesWayItself) {
  start(4, 128, 3);
  arrive(30);
  arrive(63);
  EXPECT_EQ(steps(2), "A:0+30 B:0+63 | A:30+1 B:63+1");
  EXPECT_EQ(step(), "A:31+1");
  EXPECT_EQ(waiting(), "B");
  EXPECT_EQ(scheduler_->preemptions(), 1u);
}

TEST_F(SchedulerTest, TheLongestSequenceRunsAlone) {
  start(4, 64, 2);
  arrive(63);
  arrive(1);
  EXPECT_EQ(step(), "A:0+63") << "B needs a page";
  EXPECT_EQ(step(), "A:63+1");
  finish('A');
  EXPECT_EQ(step(), "B:0+1");
}

TEST_F(SchedulerTest, PromptTokensCountOnce) {
  start(4, 40, 2);
  arrive(31);
  arrive(20);
  std::vector<size_t> counted;
  for (int i = 0; i < 5; ++i) {
    step();
    counted.push_back(step_.prompt_tokens);
  }
  EXPECT_EQ(waiting(), "B");
  finish('A');
  EXPECT_EQ(step(), "B:0+21");  // 20 again, and the one that it had generated
  counted.push_back(step_.prompt_tokens);
  EXPECT_EQ(counted, (std::vector<size_t>{40, 11, 0, 0, 0, 0}));
}

TEST_F(SchedulerTest, ScoredPromptsComeInSmallerChunks) {
  start(4, 100, 8);
  arrive(70, true);
  arrive(3);
  // 69 rows say something about the prompt; the 70th is the first token's.
  EXPECT_EQ(steps(4), "A:0+32* B:0+3 | A:32+32* B:3+1 | A:64+6* B:4+1 | A:70+1 B:5+1");
  arrive(1, true);
  EXPECT_EQ(step(), "A:71+1 B:6+1 C:0+1*") << "nothing to score, and no harm";
  EXPECT_EQ(step(), "A:72+1 B:7+1 C:1+1");
}

TEST_F(SchedulerTest, ScoringBeginsAnewUnlessItWasDone) {
  start(4, 128, 4);
  arrive(31);
  arrive(70, true);
  EXPECT_EQ(steps(2), "A:0+31 B:0+32* | A:31+1 B:32+32*");
  EXPECT_EQ(step(), "A:32+1") << "A takes the last page, B's third";
  EXPECT_EQ(waiting(), "B");
  finish('A');
  EXPECT_EQ(steps(4), "B:0+32* | B:32+32* | B:64+6* | B:70+1");
  arrive(31);  // one page, of which there is one
  EXPECT_EQ(waiting(), "C");
  finish('B');

  start(4, 128, 3);
  sequences_.clear();
  arrive(31);
  arrive(33, true);
  EXPECT_EQ(steps(2), "A:0+31 B:0+32* | A:31+1 B:32+1");
  EXPECT_EQ(step(), "A:32+1");
  EXPECT_EQ(waiting(), "B");
  finish('A');
  EXPECT_EQ(step(), "B:0+34");
}

// Random requests: nobody exceeds a limit, pages add up, and everybody ends, the first first.
TEST_F(SchedulerTest, WhateverComesEnds) {
  std::mt19937 random(1);
  const auto draw = [&](size_t from, size_t to) {
    return std::uniform_int_distribution<size_t>(from, to)(random);
  };
  for (int turn = 0; turn < 200; ++turn) {
    const size_t max_step_tokens = draw(1, 80), blocks = draw(4, 20);
    const size_t max_sequences = draw(1, std::min<size_t>(8, max_step_tokens));
    sequences_.clear();
    start(max_sequences, max_step_tokens, blocks);
    size_t prompt_tokens = 0, counted = 0;
    for (size_t i = draw(1, 12); i > 0; --i) {
      const size_t prompt = draw(1, 90);
      prompt_tokens += prompt;
      arrive(prompt, draw(0, 3) == 0);
    }
    size_t turns = 0;
    for (; !scheduler_->idle() && turns < 20000; ++turns) {
      const Sequence* first = scheduler_->running().empty() ? scheduler_->waiting()[0].get()
                                                            : scheduler_->running()[0].get();
      ASSERT_NE(step(), "");
      ASSERT_EQ(step_.chunks[0].sequence, first);
      counted += step_.prompt_tokens;
      size_t tokens = 0, pages = 0;
      for (const Step::Chunk& c : step_.chunks) {
        tokens += c.tokens;
        ASSERT_GE(c.sequence->blocks.size() * kBlockTokens, c.position + c.tokens);
      }
      ASSERT_LE(tokens, max_step_tokens);
      ASSERT_LE(scheduler_->running().size(), max_sequences);
      ASSERT_TRUE(std::is_sorted(scheduler_->running().begin(), scheduler_->running().end(),
                                 [](const auto& a, const auto& b) { return a->id < b->id; }));
      for (const auto& s : scheduler_->running()) pages += s->blocks.size();
      for (const auto& s : scheduler_->waiting()) ASSERT_TRUE(s->blocks.empty());
      ASSERT_EQ(pages + pool_->free_blocks(), blocks);
      for (const Step::Chunk& c : step_.chunks)
        if (c.sequence->tokens.size() == c.sequence->request.prompt.size() + 30)
          scheduler_->finish(*c.sequence);
      scheduler_->remove_finished();
    }
    EXPECT_TRUE(scheduler_->idle());
    EXPECT_EQ(counted, prompt_tokens);
    EXPECT_EQ(pool_->free_blocks(), blocks);
  }
}

}  // namespace
}  // namespace octet
