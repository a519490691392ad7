// Scores of single passages summed up to the figures that are shown, with their confidence.
#pragma once

#include <optional>
#include <vector>

#include "src/base/json.h"
#include "src/eval/bootstrap.h"
#include "src/eval/eval.h"

namespace octet {

// A figure with its confidence.
struct Figure {
  double value = 0;
  std::optional<Interval> interval;  // 95 %; nothing for a single passage
};

// Over all predicted tokens of all passages. The last five are against the reference.
struct TextSummary {
  size_t tokens = 0;
  Figure perplexity;
  Figure ratio;  // of the perplexity to the reference's
  Figure kl, top1, top5;
  double largest_error = 0;
};
// `reference` and `model`: one score a passage, of the same passages.
TextSummary summarize(const std::vector<TextScore>& reference, const std::vector<TextScore>& model);

// The share of true answers.
Figure accuracy(const std::vector<bool>& right);

// {"kl": value, "kl_interval": [low, high]} and the like, added to `object`.
void add_figure(ordered_json& object, const char* name, const Figure& figure);
// tokens, perplexity and, unless it is the reference's own, what compares the two.
void add_text(ordered_json& object, const TextSummary& summary, bool is_reference);

}  // namespace octet
