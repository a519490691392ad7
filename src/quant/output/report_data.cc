#include "src/quant/output/report_data.h"

#include <algorithm>
#include <cmath>

#include "src/base/decibels.h"
#include "src/base/error.h"
#include "src/model/input_grid.h"
#include "src/model/linear_group.h"

namespace octet {
namespace {

constexpr size_t kBins = 64, kWorst = 8;  // of a histogram; histograms that are kept

// [rows, n] = the linear's outputs for the rows of the sample.
std::vector<float> outputs_of(Linear& linear, const InputSample& seen, ThreadTeam& team) {
  const size_t m = seen.rows(), k = seen.k(), n = linear.outputs();
  std::vector<float> y(m * n);
  StageBuffer buffer(m, k, LinearGroup::kMaxParts);
  buffer.set_runs({{0, m, false}});
  team.run([&](Worker& w) {
    const Rows in = {seen.values().data(), k, m};
    linear.stage(w, in, buffer, 0);
    w.barrier();
    linear.compute(w, in, {y.data(), n}, buffer, 0);
  });
  return y;
}

std::vector<size_t> histogram(const InputSample& seen) {
  std::vector<size_t> counts(kBins, 0);
  const Range r = seen.range();
  const double width = double{r.max} - double{r.min};
  for (float v : seen.values()) {
    const double at = width > 0 ? (double{v} - double{r.min}) / width * kBins : 0;
    ++counts[std::min(static_cast<size_t>(at), kBins - 1)];
  }
  return counts;
}

struct Rounded {
  double clipped = 0;  // share of values outside the grid by more than rounding
  std::optional<double> snr;
};
Rounded round_sample(const InputSample& seen, const InputGrid& grid) {
  const size_t k = seen.k();
  std::vector<float> rounded(k);
  SignalNoise sums;
  size_t outside = 0;
  for (size_t r = 0; r < seen.rows(); ++r) {
    const float* x = seen.values().data() + r * k;
    grid.round(x, k, rounded.data());
    for (size_t i = 0; i < k; ++i) {
      sums.add(double{x[i]}, double{rounded[i]});
      // Half a step beyond the last level is where clipping begins to cost more than rounding.
      outside += !grid.per_token &&
                 (x[i] < grid.low() - grid.scale / 2 || x[i] > grid.high() + grid.scale / 2);
    }
  }
  return {static_cast<double>(outside) / static_cast<double>(seen.values().size()), sums.ratio()};
}

// Rounded to thousandths, as decibels are written.
double thousandths(double v) { return std::round(v * 1000) / 1000; }
void put(ordered_json& object, const char* key, const std::optional<double>& value) {
  if (value) object[key] = thousandths(*value);
}

}  // namespace

void InputSample::add(Worker& w, const Rows& x) {
  OCTET_CHECK(w.count() <= ranges_.size());
  const auto [begin, end] = w.share(x.m);
  Range own = ranges_[w.id()];
  for (size_t r = begin; r < end; ++r) own = widened(own, {x.x + r * x.ld, k_});
  ranges_[w.id()] = own;
  if (w.id() != 0) return;
  const auto slot = [&](size_t t) { return t * kRows / tokens_; };
  for (const float* row = x.x; row != x.x + x.m * x.ld; row += x.ld, ++seen_)
    if (tokens_ <= kRows || seen_ == 0 || slot(seen_) != slot(seen_ - 1))
      rows_.insert(rows_.end(), row, row + k_);
}

Range InputSample::range() const {
  Range all;
  for (const Range& r : ranges_) all = {std::min(all.min, r.min), std::max(all.max, r.max)};
  return all;
}

void ReportData::add_input(const std::vector<std::string>& names, Scheme scheme,
                           const InputSample& seen, const QuantParams& params,
                           ordered_json& input) {
  input["min"] = seen.range().min;
  input["max"] = seen.range().max;
  const bool fixed = has_static_input(scheme);
  std::optional<Range> chosen;
  if (!is_quantized(scheme)) {
    // What one scale for all would have cost, which is why a linear stays in float.
    const QuantParams whole = params_of(seen.range(), stored_);
    put(input, "snr_if_static", round_sample(seen, {false, whole.scale, whole.offset}).snr);
    return;
  }
  if (is_weight_only(scheme)) return;
  const InputGrid grid{!fixed, params.scale, params.offset};
  const Rounded rounded = round_sample(seen, grid);
  if (fixed) {
    chosen = Range{grid.low(), grid.high()};
    input["low"] = chosen->min;
    input["high"] = chosen->max;
    input["clipped"] = rounded.clipped;
  }
  put(input, "snr", rounded.snr);
  if (!rounded.snr) return;
  histograms_.push_back({names, *rounded.snr, seen.range(), chosen, histogram(seen)});
  std::stable_sort(histograms_.begin(), histograms_.end(),
                   [](const Histogram& a, const Histogram& b) { return a.snr < b.snr; });
  if (histograms_.size() > kWorst) histograms_.pop_back();
}

double ReportData::weight_snr(const FloatWeight& weight, const RoundedWeight& rounded) {
  const size_t n = weight.shape.n, k = weight.shape.k;
  std::vector<SignalNoise> rows(n);
  team_.run([&](Worker& worker) {
    const auto [begin, end] = worker.share(n);
    for (size_t j = begin; j < end; ++j)
      for (size_t i = j * k; i < (j + 1) * k; ++i) {
        const double q = double{static_cast<float>(rounded.q[i])} - double{rounded.offset[j]};
        rows[j].add(double{weight.w[i]}, q * double{rounded.scale[j]});
      }
  });
  SignalNoise all;
  for (const SignalNoise& row : rows) {
    all.signal += row.signal;
    all.noise += row.noise;
  }
  return all.ratio().value_or(kExact);
}

std::vector<std::optional<double>> ReportData::output_snr(
    const InputSample& seen, const std::vector<const FloatWeight*>& weights, Linear& linear) {
  const std::vector<float> got = outputs_of(linear, seen, team_);
  const size_t ld = linear.outputs();
  std::vector<std::optional<double>> all;
  size_t begin = 0;
  for (const FloatWeight* w : weights) {  // one by one: float copies are large
    const size_t n = w->shape.n;
    const std::vector<float> wanted = outputs_of(*pack_float({w}, team_), seen, team_);
    SignalNoise sums;
    for (size_t r = 0; r < seen.rows(); ++r)
      for (size_t j = 0; j < n; ++j)
        sums.add(double{wanted[r * n + j]}, double{got[r * ld + begin + j]});
    all.push_back(sums.ratio());
    begin += n;
  }
  return all;
}

void ReportData::add(const std::vector<std::string>& names, Scheme scheme, const InputSample* seen,
                     const std::vector<const FloatWeight*>& weights,
                     const std::vector<QuantizedLinear>& quantized, Linear* linear) {
  OCTET_CHECK(names.size() == weights.size());
  OCTET_CHECK(!is_quantized(scheme) || quantized.size() == names.size());
  ordered_json input = ordered_json::object();
  std::vector<std::optional<double>> outputs(names.size());
  if (seen != nullptr) {
    add_input(names, scheme, *seen, quantized.empty() ? QuantParams{} : quantized[0].input, input);
    if (linear != nullptr && is_quantized(scheme)) outputs = output_snr(*seen, weights, *linear);
  }
  for (size_t i = 0; i < names.size(); ++i) {
    ordered_json& l = linears_.emplace_back(ordered_json{{"name", names[i]},
                                                         {"type", scheme_name(scheme)},
                                                         {"outputs", weights[i]->shape.n},
                                                         {"inputs", weights[i]->shape.k}});
    if (!input.empty()) l["input"] = input;
    if (is_quantized(scheme)) put(l, "weight_snr", weight_snr(*weights[i], *quantized[i].rounded));
    put(l, "output_snr", outputs[i]);
  }
}

void ReportData::add_states(int64_t layer, const float* reference, const float* states,
                            size_t count) {
  SignalNoise sums;
  for (size_t i = 0; i < count; ++i) sums.add(double{reference[i]}, double{states[i]});
  ordered_json& l = layers_.emplace_back(ordered_json{{"layer", layer}});
  put(l, "state_snr", sums.ratio());
}

std::string ReportData::save() const {
  ordered_json histograms = ordered_json::array();
  for (const Histogram& h : histograms_) {
    ordered_json& j = histograms.emplace_back(ordered_json{{"names", h.names},
                                                           {"snr", h.snr},
                                                           {"seen", {h.seen.min, h.seen.max}},
                                                           {"counts", h.counts}});
    if (h.chosen) j["chosen"] = {h.chosen->min, h.chosen->max};
  }
  return ordered_json{{"linears", linears_}, {"layers", layers_}, {"histograms", histograms}}
      .dump();
}

void ReportData::restore(const std::string& saved) {
  const ordered_json j = parse_ordered_json(saved, "report");
  const auto range = [](const ordered_json& r) { return Range{r.at(0), r.at(1)}; };
  linears_ = j.at("linears").get<std::vector<ordered_json>>();
  layers_ = j.at("layers").get<std::vector<ordered_json>>();
  histograms_.clear();
  for (const ordered_json& h : j.at("histograms"))
    histograms_.push_back(
        {h.at("names"), h.at("snr"), range(h.at("seen")),
         h.contains("chosen") ? std::optional(range(h.at("chosen"))) : std::nullopt,
         h.at("counts")});
}

ordered_json ReportData::json(const KeptInFloat& kept) const {
  ordered_json out;
  out["linears"] = linears_;
  KeptInFloat missing = kept;  // a head in float is not looked at
  for (ordered_json& l : out["linears"])
    if (const auto it = missing.find(l["name"].get<std::string>()); it != missing.end()) {
      l["reason"] = it->second;
      missing.erase(it);
    }
  for (const auto& [name, reason] : missing)
    out["linears"].push_back({{"name", name}, {"type", kFloatWord}, {"reason", reason}});
  out["layers"] = layers_;
  out["histograms"] = ordered_json::array();
  for (const Histogram& h : histograms_) {
    ordered_json& row = out["histograms"].emplace_back(ordered_json{{"linears", h.names},
                                                                    {"snr", thousandths(h.snr)},
                                                                    {"min", h.seen.min},
                                                                    {"max", h.seen.max}});
    if (h.chosen) {
      row["low"] = h.chosen->min;
      row["high"] = h.chosen->max;
    }
    row["counts"] = h.counts;
  }
  return out;
}

}  // namespace octet
