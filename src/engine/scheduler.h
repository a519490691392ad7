// Decides what each step computes: which sequences run, in chunks of which size, on which pages.
//
// Pure: sequences in, a step out, without model, threads, clock or input and output, so that its
// decisions are tested by themselves.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <memory>
#include <vector>

#include "src/engine/sequence.h"
#include "src/model/block_pool.h"

namespace octet {

// Rows of one chunk for which prompt log-probabilities may be wanted: bounds the logits buffer.
inline constexpr size_t kPromptLogprobRows = 32;

struct Step {
  struct Chunk {
    Sequence* sequence;
    size_t position, tokens;  // of the sequence, from `position` on
    bool scores_prompt;       // rows of the prompt are wanted too, not the last one alone
  };
  std::vector<Chunk> chunks;
  size_t prompt_tokens = 0;  // among them, for the first time
};

class Scheduler {
 public:
  // `pool` must outlive it, and hold the longest sequence there is.
  Scheduler(size_t max_sequences, size_t max_step_tokens, BlockPool& pool)
      : max_sequences_(max_sequences), max_step_tokens_(max_step_tokens), pool_(pool) {}

  // Waits from now on, after those that came before.
  void add(std::unique_ptr<Sequence> sequence) { waiting_.push_back(std::move(sequence)); }
  // The next step: at most max_step_tokens tokens. First the running sequences, one token each for
  // those that generate, with what is left going to prompts in chunks; then waiting ones in order
  // of arrival, while sequences and pages allow. When pages run out the latest arrival is
  // preempted: it gives its pages back and is computed again later. Counts the chunks as computed.
  Step schedule();
  // Takes the pages back; remove_finished() then ends the sequence.
  void finish(Sequence& sequence);
  void remove_finished();

  // In order of arrival.
  const std::vector<std::unique_ptr<Sequence>>& running() const { return running_; }
  const std::deque<std::unique_ptr<Sequence>>& waiting() const { return waiting_; }
  bool idle() const { return running_.empty() && waiting_.empty(); }
  uint64_t preemptions() const { return preemptions_; }

 private:
  void schedule_running(Step& step, size_t& budget);
  void admit_waiting(Step& step, size_t& budget);
  bool make_room(Sequence& sequence, size_t tokens);

  const size_t max_sequences_, max_step_tokens_;
  BlockPool& pool_;
  std::vector<std::unique_ptr<Sequence>> running_;
  std::deque<std::unique_ptr<Sequence>> waiting_;  // without pages
  uint64_t preemptions_ = 0;
};

}  // namespace octet
