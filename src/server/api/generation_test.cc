// The life of one request for text, without sockets: answers, streams, refusals and clients that
// go.
#include "src/server/api/generation.h"

#include <chrono>
#include <thread>

#include "src/server/api/generation_testing.h"
#include "src/server/http/errors.h"

namespace octet::server::tests {
namespace {

class GenerationTest : public ApiTest {
 protected:
  GenerationTest() {
    request_.input = std::vector<PromptInput>{std::vector<int32_t>{72, 105}};
    request_.sampling = greedy(1);
    request_.sampling.ignore_eos = true;
    request_.max_tokens = 5;
  }
  std::shared_ptr<Generation> make() {
    exchange_ = std::make_shared<RecordedExchange>("POST", "/v1/completions");
    return std::make_shared<Generation>(*context_, request_, "id", exchange_);
  }
  // "400 n: <message>" of what is thrown, or "accepted".
  std::string outcome() {
    try {
      make()->submit();
    } catch (const std::exception& e) {
      const ApiError error = to_api_error(e);
      return std::to_string(error.status()) + " " + error.param() + ": " + error.what();
    }
    wait_for_answer(*exchange_);
    return "accepted";
  }
  size_t load() const { return context_->load.load(); }

  GenerationRequest request_;
  std::shared_ptr<RecordedExchange> exchange_;
};

TEST_F(GenerationTest, AnswersWhole) {
  start_context();
  request_.n = 2;
  request_.input =
      std::vector<PromptInput>{std::vector<int32_t>{72, 105}, std::vector<int32_t>{72, 105, 33}};
  const auto generation = make();
  EXPECT_EQ(load(), 1u);
  generation->submit();
  wait_for_answer(*exchange_);
  EXPECT_EQ(exchange_->response()->status, 200u);
  const ordered_json answer = exchange_->json();
  EXPECT_EQ(answer["id"], "cmpl-id");
  EXPECT_EQ(answer["model"], "tiny");
  ASSERT_EQ(answer["choices"].size(), 4u);
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(answer["choices"][i]["index"], i);
    EXPECT_EQ(answer["choices"][i]["finish_reason"], "length");
  }
  EXPECT_EQ(answer["choices"][0]["text"], answer["choices"][1]["text"]);
  EXPECT_EQ(answer["usage"]["prompt_tokens"], 2 + 3);  // each prompt once
  EXPECT_EQ(answer["usage"]["completion_tokens"], 4 * 5);
  EXPECT_EQ(load(), 0u);
}

TEST_F(GenerationTest, AStreamWaitsForItsReader) {
  start_context();
  request_.stream = true;
  const auto generation = make();
  exchange_->take_nothing();
  generation->submit();
  // With nothing sent yet, all of it is generated and kept.
  expect_idle();
  EXPECT_EQ(engine_->stats().generation_tokens, 5u);
  io_.poll();
  EXPECT_EQ(exchange_->streamed(), "");
  EXPECT_EQ(load(), 1u);
  exchange_->take_again();
  wait_for_answer(*exchange_);
  const std::string& text = exchange_->streamed();
  EXPECT_EQ(exchange_->response()->type, "text/event-stream; charset=utf-8");
  EXPECT_TRUE(text.starts_with("data: {\"id\":\"cmpl-id\""));
  EXPECT_TRUE(text.ends_with("\n\ndata: [DONE]\n\n"));
  EXPECT_NE(text.find("\"finish_reason\":\"length\""), std::string::npos);
  EXPECT_EQ(load(), 0u);
}

TEST_F(GenerationTest, AClientThatGoesEndsItsRequests) {
  start_context();
  const auto other = submit_held({1, 2, 3}, greedy(20));  // the engine waits meanwhile
  const auto generation = make();
  generation->submit();
  io_.poll();
  exchange_->go();
  EXPECT_EQ(load(), 0u);
  other->release();
  EXPECT_EQ(other->wait().finish, FinishReason::kLength);
  expect_idle();
  EXPECT_EQ(engine_->stats().generation_tokens, 20u);
  EXPECT_FALSE(exchange_->response());
}

TEST_F(GenerationTest, AClientThatIsGoneBeforeTheStart) {
  start_context();
  const auto generation = make();
  exchange_->go();
  generation->submit();
  run_until([&] { return load() == 0; });
  expect_idle();
  EXPECT_FALSE(exchange_->response());
}

TEST_F(GenerationTest, AFullQueueTakesAllOrNothing) {
  start_context(/*max_sequences=*/1, /*max_queue=*/4);
  const auto running = submit_held({1, 2, 3}, greedy(20));
  std::vector<std::shared_ptr<octet::tests::Collector>> waiting;
  for (int i = 0; i < 3; ++i) waiting.push_back(submit({1, 2, 3}, greedy(20)));
  request_.n = 2;
  EXPECT_EQ(outcome(), "503 : Request queue full.");
  running->release();
  EXPECT_EQ(running->wait().finish, FinishReason::kLength);
  for (const auto& w : waiting) EXPECT_EQ(w->wait().finish, FinishReason::kLength);
  expect_idle();
  EXPECT_EQ(engine_->stats().generation_tokens, 80u) << "the one that had a place was aborted";
  run_until([&] { return load() == 0; });  // once the engine has let go of that one
}

TEST_F(GenerationTest, TheModelsOwnLimitBoundsAnswers) {
  options_.defaults.max_new_tokens = 3;
  start_context();
  EXPECT_EQ(outcome(), "accepted");
  EXPECT_EQ(exchange_->json()["usage"]["completion_tokens"], 3);
  request_.sampling.min_tokens = 4;
  EXPECT_EQ(outcome(), "400 min_tokens: min_tokens must be at most max_tokens=3, got 4.");
}

TEST_F(GenerationTest, MoreThanTheServerHolds) {
  start_context(16, /*max_queue=*/400);  // of which one request may take half
  request_.n = 201;
  EXPECT_EQ(outcome(), "400 n: n times the number of prompts must be at most 200, got 201 * 1");
  // 200 answers of 100 tokens, each with the chosen one and the tokenizer's 263 others at most.
  request_.n = 200;
  request_.max_tokens = 100;
  request_.sampling.logprobs = 100000;
  EXPECT_EQ(outcome(),
            "400 logprobs: the request may need 5280000 log-probabilities, at most 3000000 are "
            "allowed: lower logprobs, max_tokens, n or the number of prompts");
  EXPECT_EQ(load(), 0u);
}

// What others hold leaves room for answers that hold little; what is held is given back.
TEST_F(GenerationTest, LogprobsOfAllAnswersTogetherAreBounded) {
  start_context(16);
  constexpr size_t kOthers = 6'000'000;
  context_->logprobs = kOthers;
  request_.sampling.logprobs = 100;
  EXPECT_EQ(outcome(), "accepted");
  EXPECT_EQ(exchange_->response()->status, 200u);
  request_.n = 10;
  request_.sampling.temperature = 1;
  request_.max_tokens = 120;  // 10 * 120 * 101 entries
  for (const bool stream : {false, true}) {
    request_.stream = stream;
    EXPECT_EQ(outcome(), "accepted");
    // A stream's entries go as they come: it ends well.
    EXPECT_EQ(exchange_->response()->status, stream ? 200u : 500u);
    for (int i = 0; i < 1000 && context_->logprobs != kOthers; ++i) {  // until the engine lets go
      io_.poll();
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    EXPECT_EQ(context_->logprobs, kOthers);
  }
  context_->logprobs = 0;
  request_.stream = false;
  EXPECT_EQ(outcome(), "accepted");
  EXPECT_EQ(exchange_->response()->status, 200u);
}

TEST_F(GenerationTest, TheEnginesRefusalsNameTheMember) {
  start_context();
  request_.input = std::vector<PromptInput>{std::vector<int32_t>{72, 160}};
  EXPECT_EQ(outcome(), "400 prompt: token id 160 is out of vocabulary (0..159); field prompt");
  EXPECT_EQ(load(), 0u);
  request_.input = std::vector<PromptInput>{std::vector<int32_t>(200, 1)};
  EXPECT_TRUE(
      outcome().starts_with("400 input_tokens: This model's maximum context length is 128 "
                            "tokens."));
}

TEST_F(GenerationTest, OneRefusedPromptEndsThoseBefore) {
  start_context();
  request_.input = std::vector<PromptInput>{std::vector<int32_t>{72}, std::vector<int32_t>{160}};
  request_.max_tokens = 100;
  EXPECT_EQ(outcome(), "400 prompt: token id 160 is out of vocabulary (0..159); field prompt");
  expect_idle();
}

}  // namespace
}  // namespace octet::server::tests
