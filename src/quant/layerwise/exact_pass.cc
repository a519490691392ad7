#include "src/quant/layerwise/exact_pass.h"

#include <algorithm>
#include <numeric>
#include <utility>

#include "src/base/checked.h"
#include "src/quant/layer/exact.h"
#include "src/quant/layer/kv_range.h"
#include "src/quant/layer/shared_linear.h"

namespace octet {
namespace {

GroupCost cost_of(const FloatLayer& w, int64_t layer, LayerPart part, const InputError& e,
                  double factor) {
  GroupCost cost;
  cost.fixed = e.fixed * factor;
  cost.per_token = e.per_token * factor;
  cost.linears = linear_names(layer, part);
  for (const FloatWeight* weight : w.of(part)) cost.bytes += weight->w.size();
  return cost;
}

}  // namespace

ExactPass::ExactPass(const FloatModel& model, const Recipe& recipe, const CalibrationTokens& tokens,
                     const LinearPlan& plan, std::unique_ptr<LayerStream> stream,
                     const RunContext& run)
    : model_(model),
      recipe_(recipe),
      tokens_(tokens),
      linears_(plan),
      stream_(std::move(stream)),
      stored_(model.config().dtype),
      team_(run.team),
      ranks_(run.ranks),
      groups_(recipe, stored_, team_, ranks_) {}

DecoderLayer ExactPass::packed(const FloatLayer& w) const {
  DecoderLayer layer{.norms = w.norms};
  for (const PartRow& row : part_rows())
    layer.part(row.part) = shared(pack_float(w.of(row.part), team_), ranks_);
  return layer;
}

std::vector<GroupCost> ExactPass::measure(int64_t index) {
  const FloatLayer w = model_.layer(index);
  const DecoderLayer layer = packed(w);
  LayerStream& s = *stream_;
  s.set_intermediate(w.up().shape.n);
  std::vector<GroupCost> costs;
  // Attention or the MLP: `compute` it; then its own error at the input of `inner`, o or down.
  const auto block = [&](LayerPart outer_part, LayerPart inner, const auto& compute,
                         const auto& inner_error) {
    const Norm& norm = layer.norms[part_row(outer_part).norm.value()];
    const InputError outer = error_behind(norm, outer_part, w);
    const Buffer<float> before = copy_of_states();
    compute();
    const std::vector<float> weight = token_weights();
    costs.push_back(cost_of(w, index, outer_part, outer, change(before, weight) / outer.signal));
    costs.push_back(cost_of(w, index, inner, inner_error(weight), 1 / energy(weight)));
  };
  block(
      LayerPart::kQkv, LayerPart::kO,
      [&] {
        s.attention(layer);
        s.attention_output(layer);
      },
      [&](const std::vector<float>& weight) { return attended_error(w, weight); });
  block(
      LayerPart::kGateUp, LayerPart::kDown,
      [&] {
        s.mlp(layer);
        s.mlp_output(layer);
      },
      [&](const std::vector<float>& weight) { return activated_error(w, weight); });
  return costs;
}

PreparedLayer ExactPass::prepare(int64_t index) {
  PreparedLayer work;
  FloatLayer& w = work.weights = model_.layer(index);
  const ModelConfig& config = model_.config();
  DecoderLayer layer = packed(w);
  LayerStream& s = *stream_;
  s.set_intermediate(w.up().shape.n);
  const size_t q = as_size(config.q_size()), kv = as_size(config.kv_size());
  KvRange keys = KvRange::of_keys(config, w.norms), values(kv);
  if (linears_.kv_cache)
    layer.qkv = std::make_unique<TapLinear>(std::move(layer.qkv), Tap(),
                                            [&](Worker& worker, const Rows& y) {
                                              const Rows k = {y.x + q, y.ld, y.m};
                                              keys.observe_rotated(worker, k, s.angles());
                                              values.observe(worker, {k.x + kv, y.ld, y.m});
                                            });

  work.qkv_input = tokens_.subset_mean(s.normalized(layer.norms[NormKind::kInput]), hidden(),
                                       tokens_.ones, team_);
  s.attention(layer);
  s.attention_output(layer);
  work.o_weight = token_weights();
  work.after_attention = mean_state(work.o_weight);
  std::vector<float> scale, center;  // of the values
  // quant_bias of both holds the biases that centering makes.
  const Scheme v = type(index, LayerPart::kQkv), o = type(index, LayerPart::kO);
  if (const auto plan = plan_values(w, work.o_weight, o, is_static(v) && o == v)) {
    fuse(plan->scale, LayerPart::kO, config, w);
    work.o_params = plan->params;
    scale = source_scale(plan->scale, kv, config);
    center = plan->center;
    if (!center.empty()) {
      std::vector<float> scaled(kv);
      for (size_t i = 0; i < kv; ++i) scaled[i] = center[i] / scale[i];
      center_values(scaled, config, w);
    }
  }
  if (linears_.kv_cache) work.kv = KvCacheScales{keys.scale({}), values.scale(scale, center)};

  work.gate_up_input = tokens_.subset_mean(s.normalized(layer.norms[NormKind::kPostAttention]),
                                           hidden(), tokens_.ones, team_);
  s.mlp(layer);
  s.mlp_output(layer);
  work.down_weight = token_weights();
  work.after_mlp = mean_state(work.down_weight);
  if (const auto plan = plan_mlp(w, work.down_weight, type(index, LayerPart::kDown))) {
    fuse(plan->scale, LayerPart::kDown, config, w);
    split_channels(plan->split, w);
    work.down_params = plan->params;
  }
  flip(LayerPart::kQkv, type(index, LayerPart::kQkv), signs_of(work.qkv_input), work.qkv_input, w);
  flip(LayerPart::kGateUp, type(index, LayerPart::kGateUp), signs_of(work.gate_up_input),
       work.gate_up_input, w);
  return work;
}

// -1 for channels that are negative on average: once their signs are flipped, one offset for all
// holds their means.
std::vector<float> ExactPass::signs_of(const std::vector<double>& mean) const {
  std::vector<float> signs(mean.size(), 1.0f);
  if (!recipe_.find<FlipNormSigns>()) return signs;
  for (size_t i = 0; i < mean.size(); ++i)
    if (mean[i] < 0) signs[i] = -1;
  return signs;
}

// The part's input, behind its norm, times the signs; `mean` is of that input.
void ExactPass::flip(LayerPart part, Scheme scheme, const std::vector<float>& signs,
                     std::vector<double>& mean, FloatLayer& w) const {
  if (!is_static(scheme)) return;
  fuse(signs, part, model_.config(), w);
  for (size_t i = 0; i < mean.size(); ++i) mean[i] *= double{signs[i]};
}

// Of the input of a part behind its norm, times the signs.
InputError ExactPass::error_behind(const Norm& norm, LayerPart part, const FloatLayer& w) {
  const float* x = stream_->normalized(norm);
  const std::vector<float> signs = signs_of(tokens_.subset_mean(x, hidden(), tokens_.ones, team_));
  Buffer<float> flipped(tokens_.size() * hidden());
  team_.run([&](Worker& worker) {
    const auto [begin, end] = worker.share(tokens_.size());
    for (size_t t = begin; t < end; ++t)
      for (size_t i = 0; i < hidden(); ++i)
        flipped[t * hidden() + i] = x[t * hidden() + i] * signs[i];
  });
  return groups_.input_error(
      {flipped.data(), tokens_.size(), hidden(), tokens_.ones, tokens_.fold, {}}, w.of(part));
}

InputError ExactPass::attended_error(const FloatLayer& w, const std::vector<float>& weight) {
  if (recipe_.find<EqualizeValues>())
    return {plan_values(w, weight, Scheme::kW8A8, true)->error,
            plan_values(w, weight, Scheme::kW8A8Dynamic, false)->error, 0};
  return groups_.input_error(
      {stream_->attended(), tokens_.size(), w.o().shape.k, weight, tokens_.fold, {}},
      w.of(LayerPart::kO));
}

InputError ExactPass::activated_error(const FloatLayer& w, const std::vector<float>& weight) {
  if (recipe_.find<EqualizeMlp>())
    return {plan_mlp(w, weight, Scheme::kW8A8)->error,
            plan_mlp(w, weight, Scheme::kW8A8Dynamic)->error, 0};
  return groups_.input_error(
      {stream_->activated(), tokens_.size(), stream_->intermediate(), weight, tokens_.fold, {}},
      w.of(LayerPart::kDown));
}

Buffer<float> ExactPass::copy_of_states() const {
  Buffer<float> copy(tokens_.size() * hidden());
  team_.run([&](Worker& w) {
    const auto [begin, end] = w.share(copy.size());
    std::copy(stream_->states() + begin, stream_->states() + end, copy.data() + begin);
  });
  return copy;
}

// sum_i of_value(i) over the states of every token.
template <typename OfValue>
std::vector<double> ExactPass::by_token(const OfValue& of_value) const {
  std::vector<double> sums(tokens_.size());
  team_.run([&](Worker& w) {
    const auto [begin, end] = w.share(sums.size());
    for (size_t t = begin; t < end; ++t)
      for (size_t i = t * hidden(); i < (t + 1) * hidden(); ++i) sums[t] += of_value(i);
  });
  return sums;
}

// |state|^2 of every token.
std::vector<double> ExactPass::squares() const {
  const float* x = stream_->states();
  return by_token([x](size_t i) { return double{x[i]} * double{x[i]}; });
}

// sum_t weight |state|^2
double ExactPass::energy(const std::vector<float>& weight) const {
  const std::vector<double> of_token = squares();
  return std::inner_product(weight.begin(), weight.end(), of_token.begin(), 0.0);
}

// sum_t weight |state - before|^2, relative to the energy.
double ExactPass::change(const Buffer<float>& before, const std::vector<float>& weight) const {
  const float* x = stream_->states();
  const std::vector<double> moved = by_token([&](size_t i) {
    const double d = double{x[i]} - double{before[i]};
    return d * d;
  });
  return std::inner_product(weight.begin(), weight.end(), moved.begin(), 0.0) / energy(weight);
}

// What an error of one unit in a token's state counts: the inverse of its mean square, 1 on
// average.
std::vector<float> ExactPass::token_weights() const {
  const std::vector<double> of_token = squares();
  std::vector<float> w(tokens_.size());
  double total = 0;
  for (size_t t = 0; t < w.size(); ++t) {
    w[t] = static_cast<float>(1 / (of_token[t] / static_cast<double>(hidden()) + 1e-12));
    total += double{w[t]};
  }
  for (float& v : w) v *= static_cast<float>(static_cast<double>(w.size()) / total);
  return w;
}

std::vector<double> ExactPass::mean_state(const std::vector<float>& weight) const {
  return tokens_.subset_mean(stream_->states(), hidden(), weight, team_);
}

// Nothing for an o_proj in float. `center`: whether v has a bias that can take the center.
std::optional<ChannelPlan> ExactPass::plan_values(const FloatLayer& w,
                                                  const std::vector<float>& weight, Scheme scheme,
                                                  bool center) {
  const auto* step = recipe_.find<EqualizeValues>();
  if (!step || !is_quantized(scheme)) return std::nullopt;
  const ModelConfig& c = model_.config();
  const FloatWeight& o = w.o();
  const ChannelInputs in{
      stream_->attended(),           tokens_.size(),     o.shape.k, weight, tokens_.fold, &o,
      as_size(c.heads / c.kv_heads), as_size(c.head_dim)};
  ChannelOptions options;
  options.margin = step->margin;
  options.center = center;
  return plan(in, options, scheme);
}

// Nothing for a down_proj in float that need not grow.
std::optional<ChannelPlan> ExactPass::plan_mlp(const FloatLayer& w,
                                               const std::vector<float>& weight, Scheme scheme) {
  const auto* step = recipe_.find<EqualizeMlp>();
  if (!step || (linears_.mlp_copies == 0 && !is_quantized(scheme))) return std::nullopt;
  const ChannelInputs in{stream_->activated(), tokens_.size(), stream_->intermediate(), weight,
                         tokens_.fold,         &w.down()};
  const double noise = recipe_.gptq_damping() ? step->weight_noise : 1;
  return plan(in, {linears_.mlp_copies, noise, step->spread, step->margin, false}, scheme);
}

ChannelPlan ExactPass::plan(const ChannelInputs& in, const ChannelOptions& options, Scheme scheme) {
  return is_static(scheme) ? plan_static(in, options, stored_, team_, ranks_)
                           : plan_dynamic(in, options, team_);
}

}  // namespace octet
