// What happens in the engine, for the metrics.
#pragma once

#include <cstddef>

#include "src/engine/request.h"

namespace octet {

// Called on the engine's thread.
class EngineObserver {
 public:
  virtual ~EngineObserver() = default;
  virtual void on_step(size_t prompt_tokens, size_t generated_tokens) = 0;
  virtual void on_first_token(double seconds_since_arrival) = 0;
  virtual void on_next_token(double seconds_since_last) = 0;
  virtual void on_finish(const Request& request, size_t output_tokens, FinishReason reason,
                         const RequestTimes& times) = 0;
};

}  // namespace octet
