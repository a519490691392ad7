#include "src/engine/scheduler.h"

#include <algorithm>
#include <utility>

namespace octet {
namespace {

// Tokens of the sequence's next chunk, within `limit`.
size_t chunk_size(const Sequence& s, size_t limit) {
  const size_t n = std::min(s.uncomputed(), limit);
  return s.scores_prompt ? std::min(n, kPromptLogprobRows) : n;
}

void add_chunk(Sequence& s, size_t tokens, Step& step) {
  step.chunks.push_back({&s, s.computed, tokens, s.scores_prompt});
  s.computed += tokens;
  const size_t prompt = s.request.prompt.size();
  // The prompt's last row scores no token of the prompt.
  s.scores_prompt = s.scores_prompt && s.computed + 1 < prompt;
  if (const size_t done = std::min(s.computed, prompt); done > s.counted) {
    step.prompt_tokens += done - s.counted;
    s.counted = done;
  }
}

}  // namespace

Step Scheduler::schedule() {
  Step step;
  size_t budget = max_step_tokens_;
  schedule_running(step, budget);
  admit_waiting(step, budget);
  return step;
}

// A preemption removes later sequences only, so the index stays valid.
void Scheduler::schedule_running(Step& step, size_t& budget) {
  size_t generating = 0;  // sequences that generate and have not had their token yet
  for (const auto& s : running_) generating += s->uncomputed() == 1;
  for (size_t i = 0; i < running_.size() && budget > 0; ++i) {
    Sequence& s = *running_[i];
    const bool generates = s.uncomputed() == 1;
    const size_t reserve = generates ? 0 : generating;
    if (budget <= reserve) continue;
    const size_t n = chunk_size(s, budget - reserve);
    if (n == 0 || !make_room(s, s.computed + n)) continue;
    if (generates && generating > 0) --generating;
    add_chunk(s, n, step);
    budget -= n;
  }
}

void Scheduler::admit_waiting(Step& step, size_t& budget) {
  while (!waiting_.empty() && budget > 0 && running_.size() < max_sequences_) {
    Sequence& s = *waiting_.front();
    // Admitted only when its known tokens fit, so that admission does not preempt.
    if (blocks_for(s.tokens.size() + 1) > pool_.free_blocks() && !running_.empty()) break;
    running_.push_back(std::move(waiting_.front()));
    waiting_.pop_front();
    const size_t n = chunk_size(s, budget);
    if (!make_room(s, n)) break;
    add_chunk(s, n, step);
    budget -= n;
  }
}

// Pages for the sequence's first `tokens` tokens; preempts later arrivals when there are too few.
// False when the sequence itself had to give way.
bool Scheduler::make_room(Sequence& s, size_t tokens) {
  const size_t needed = blocks_for(tokens);
  while (needed > s.blocks.size() && !pool_.allocate(needed - s.blocks.size(), s.blocks)) {
    std::unique_ptr<Sequence> victim = std::move(running_.back());
    running_.pop_back();
    pool_.release(victim->blocks);
    victim->computed = 0;
    ++preemptions_;
    const bool self = victim.get() == &s;
    waiting_.push_front(std::move(victim));
    if (self) return false;
  }
  return true;
}

void Scheduler::finish(Sequence& s) {
  s.finished = true;
  pool_.release(s.blocks);
}

void Scheduler::remove_finished() {
  std::erase_if(running_, [](const auto& s) { return s->finished; });
  std::erase_if(waiting_, [](const auto& s) { return s->finished; });
}

}  // namespace octet
