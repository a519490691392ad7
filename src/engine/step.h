// What the engine does in one step, from what the scheduler has decided to the outputs of the
// sequences: the batch, the forward pass, sampling, and what each token means for its text.
//
// On the caller's thread, without queue or lock, so that it is tested by itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "src/engine/observer.h"
#include "src/engine/request.h"
#include "src/engine/sampler.h"
#include "src/engine/scheduler.h"
#include "src/engine/sequence.h"
#include "src/model/kv_cache.h"
#include "src/model/transformer.h"

namespace octet {

// A row of a step's logits: what follows `position` of the sequence.
struct StepRow {
  Sequence* sequence;
  size_t position;
  bool draws;  // a new token; else it scores one of the prompt

  // What it has become, once it is computed.
  bool broken = false;                // not all logits are finite
  std::optional<int32_t> token = {};  // drawn; nothing where masks leave none
  TokenLogprob logprob = {};          // of the token that was drawn or scored
};

struct StepBatch {
  Batch batch;                // refers to the sequences' pages
  std::vector<StepRow> rows;  // one for each of batch.logit_rows, in order
};

// The chunks of the step one after another, with their tokens, pages and wanted rows.
StepBatch batch_of(const Step& step);

// Draws a token from row `i` [vocab] of what model.forward() has returned: safe logits, or bounds
// if the sampler wants only the largest. `logprob` as in Sampler::sample().
std::optional<int32_t> draw(Sampler& sampler, const Transformer& model, size_t i,
                            std::span<float> row, TokenLogprob* logprob);

class StepRunner {
 public:
  // Model and cache must outlive it; `eos_ids` as in EngineOptions. `observer` (may be null) hears
  // of tokens.
  StepRunner(Transformer& model, KvCache& cache, std::vector<int32_t> eos_ids,
             EngineObserver* observer)
      : model_(model), cache_(cache), eos_ids_(std::move(eos_ids)), observer_(observer) {}

  // Runs the model on the step and draws or scores a token with every row of the logits. The
  // sequences have no new token yet. Throws RankError when another rank does not answer.
  std::vector<StepRow> compute(const Step& step);

  // Takes an output of a sequence. When it is the last one (`finish`), the sequence must be
  // `finished` afterwards (Scheduler::finish).
  using Send = std::function<void(Sequence& sequence, RequestOutput output)>;
  // Gives each row's token to its sequence and sends what comes of it, in order. A sequence with a
  // broken row ends with an error. Returns how many tokens were generated.
  size_t deliver(std::vector<StepRow> rows, const Send& send);

 private:
  RequestOutput accept(StepRow& row);

  Transformer& model_;
  KvCache& cache_;
  const std::vector<int32_t> eos_ids_;
  EngineObserver* observer_;
};

}  // namespace octet
