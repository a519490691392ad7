#include "src/eval/summary.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "src/base/error.h"

namespace octet {
namespace {

Figure ratio_of(const std::vector<double>& numerators, const std::vector<double>& denominators) {
  double above = 0, below = 0;
  for (double v : numerators) above += v;
  for (double v : denominators) below += v;
  return {above / below, ratio_interval(numerators, denominators)};
}

Figure exp_of(Figure f) {
  f.value = std::exp(f.value);
  if (f.interval) f.interval = {std::exp(f.interval->low), std::exp(f.interval->high)};
  return f;
}

}  // namespace

TextSummary summarize(const std::vector<TextScore>& reference,
                      const std::vector<TextScore>& model) {
  OCTET_CHECK(!model.empty() && reference.size() == model.size());
  std::vector<double> tokens;
  for (const TextScore& s : model) tokens.push_back(static_cast<double>(s.tokens));
  const auto per_token = [&](const std::function<double(size_t)>& sum) {
    std::vector<double> sums;
    for (size_t i = 0; i < model.size(); ++i) sums.push_back(sum(i));
    return ratio_of(sums, tokens);
  };
  TextSummary s;
  for (const TextScore& m : model) {
    s.tokens += m.tokens;
    s.largest_error = std::max(s.largest_error, static_cast<double>(m.largest_error));
  }
  s.perplexity = exp_of(per_token([&](size_t i) { return model[i].log_loss; }));
  s.ratio = exp_of(per_token([&](size_t i) { return model[i].log_loss - reference[i].log_loss; }));
  s.kl = per_token([&](size_t i) { return model[i].kl; });
  s.top1 = per_token([&](size_t i) { return static_cast<double>(model[i].same_top1); });
  s.top5 = per_token([&](size_t i) { return static_cast<double>(model[i].shared_top) / kTop; });
  return s;
}

Figure accuracy(const std::vector<bool>& right) {
  OCTET_CHECK(!right.empty());
  return ratio_of({right.begin(), right.end()}, std::vector<double>(right.size(), 1.0));
}

void add_figure(ordered_json& object, const char* name, const Figure& figure) {
  object[name] = figure.value;
  if (figure.interval)
    object[std::string(name) + "_interval"] = {figure.interval->low, figure.interval->high};
}

void add_text(ordered_json& object, const TextSummary& s, bool is_reference) {
  object["tokens"] = s.tokens;
  add_figure(object, "perplexity", s.perplexity);
  // A reference is at no distance from itself: no interval is worth showing.
  const auto compared = [&](Figure f) { return is_reference ? Figure{f.value, {}} : f; };
  add_figure(object, "perplexity_ratio", compared(s.ratio));
  add_figure(object, "kl", compared(s.kl));
  add_figure(object, "top1", compared(s.top1));
  add_figure(object, "top5", compared(s.top5));
  object["largest_logit_error"] = s.largest_error;
}

}  // namespace octet
