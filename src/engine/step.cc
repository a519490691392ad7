#include "src/engine/step.h"

#include <algorithm>
#include <chrono>
#include <span>
#include <utility>

#include "src/base/error.h"
#include "src/engine/largest.h"
#include "src/engine/sampler.h"
#include "src/model/logits.h"

namespace octet {

StepBatch batch_of(const Step& step) {
  StepBatch out;
  for (const Step::Chunk& c : step.chunks) {
    const Sequence& s = *c.sequence;
    const size_t end = c.position + c.tokens, prompt = s.request.prompt.size();
    // A preempted sequence computes tokens that it generated again beside its prompt.
    const size_t generated = end - std::clamp(prompt, c.position, end);
    const size_t first = out.batch.add(std::span(s.tokens).subspan(c.position, c.tokens),
                                       c.position, s.blocks.data(), generated);
    for (size_t i = c.position; i < end; ++i) {
      const bool last = i + 1 == s.tokens.size(), of_prompt = c.scores_prompt && i + 1 < prompt;
      if (!last && !of_prompt) continue;
      out.batch.logit_rows.push_back(first + i - c.position);
      out.batch.largest.push_back(last && s.sampler.wanted() > 0);
      out.rows.push_back({.sequence = c.sequence, .position = i, .draws = last});
    }
  }
  return out;
}

std::optional<int32_t> draw(Sampler& sampler, const Transformer& model, size_t i,
                            std::span<float> row, TokenLogprob* logprob) {
  const auto exact = model.screened(i);
  if (!exact) return sampler.sample(row, logprob);
  return sampler.sample(largest_choices(row, *exact, sampler.wanted(), sampler.rules()));
}

std::vector<StepRow> StepRunner::compute(const Step& step) {
  for (const Step::Chunk& c : step.chunks) {
    Sequence& s = *c.sequence;
    if (s.times.scheduled == Clock::time_point()) s.times.scheduled = Clock::now();
    if (c.scores_prompt && c.position == 0) s.prompt_logprobs.clear();  // again, if preempted
  }
  StepBatch work = batch_of(step);
  std::vector<StepRow>& rows = work.rows;
  const std::span<float> logits = model_.forward(work.batch, cache_);
  const size_t vocab = static_cast<size_t>(model_.config().vocab_size);
  model_.team().run([&](Worker& w) {
    for (size_t i = w.id(); i < rows.size(); i += w.count()) {
      StepRow& r = rows[i];
      Sequence& s = *r.sequence;
      const std::span<float> row = logits.subspan(i * vocab, vocab);
      if (!model_.screened(i)) {
        r.broken = !all_finite(row);
        if (r.broken) continue;
        Sampler::make_safe(row);
      }
      if (r.draws)
        r.token = draw(s.sampler, model_, i, row, &r.logprob);
      else
        r.logprob =
            Sampler::logprob_of(row, s.tokens[r.position + 1], s.request.sampling.prompt_logprobs);
    }
  });
  return std::move(work.rows);
}

size_t StepRunner::deliver(std::vector<StepRow> rows, const Send& send) {
  size_t generated = 0;
  for (StepRow& r : rows) {
    Sequence& s = *r.sequence;
    if (s.finished) continue;  // by an earlier row that is broken
    if (r.broken) {
      RequestOutput out;
      out.finish = FinishReason::kError;
      out.error = broken_logits(model_.folder()).what();
      send(s, std::move(out));
    } else if (!r.draws) {
      if (s.prompt_logprobs.empty()) s.prompt_logprobs.emplace_back();  // the first has none
      s.prompt_logprobs.emplace_back(std::move(r.logprob));
    } else if (r.token) {
      ++generated;
      send(s, accept(r));
    } else {
      send(s, s.finish_early());
    }
  }
  return generated;
}

RequestOutput StepRunner::accept(StepRow& row) {
  Sequence& s = *row.sequence;
  const auto now = Clock::now();
  const bool first = s.sampler.output().size() == 1;
  if (observer_ != nullptr) {
    const auto since = [&](Clock::time_point then) {
      return std::chrono::duration<double>(now - then).count();
    };
    if (first)
      observer_->on_first_token(since(s.times.arrived));
    else
      observer_->on_next_token(since(s.times.last_token));
  }
  if (first) s.times.first_token = now;
  s.times.last_token = now;
  return s.accept(*row.token, std::move(row.logprob), eos_ids_);
}

}  // namespace octet
