// Figures for Prometheus, under vLLM's names so that its dashboards and autoscalers work unchanged.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "src/engine/engine.h"

namespace octet::server {

// What is known of an HTTP request when it is answered.
struct HttpFigures {
  std::string_view handler, method;  // the route, not the path: there are few
  unsigned status = 0;
  double seconds = 0;
  size_t request_bytes = 0, response_bytes = 0;  // as Content-Length says; without one 0
};

// Made before the engine, which reports to it (from its own thread); every series is there, at
// zero, from the start.
class Metrics final : public EngineObserver {
 public:
  // `model_name` is the label that all series carry.
  Metrics(const std::string& model_name, const EngineOptions& engine);
  ~Metrics() override;

  void on_step(size_t prompt_tokens, size_t generated_tokens) override;
  void on_first_token(double seconds_since_arrival) override;
  void on_next_token(double seconds_since_last) override;
  void on_finish(const Request& request, size_t output_tokens, FinishReason reason,
                 const RequestTimes& times) override;

  // All n answers to a prompt are complete; the longest has so many tokens.
  void on_prompt_done(size_t n, size_t longest);
  // An HTTP request was answered.
  void on_http(const HttpFigures& figures);

  // The exposition text; one thread at a time.
  std::string text(const EngineStats& stats);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace octet::server
