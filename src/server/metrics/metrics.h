// Figures for Prometheus, under vLLM's names so that its dashboards and autoscalers work unchanged.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <string_view>

#include "src/engine/engine.h"

namespace octet::server {

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

  // A generation was accepted, with n answers per prompt.
  void on_generation(size_t n);
  // An HTTP request was answered. `handler` is the route, not the path: there are few.
  void on_http(std::string_view handler, std::string_view method, unsigned status, double seconds);

  // The exposition text; one thread at a time.
  std::string text(const EngineStats& stats);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace octet::server
