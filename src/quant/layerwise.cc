#include "src/quant/layerwise.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "src/base/checked.h"
#include "src/base/error.h"
#include "src/base/progress.h"
#include "src/quant/encode.h"
#include "src/quant/exact.h"
#include "src/quant/export.h"
#include "src/quant/float_model.h"
#include "src/quant/group_quantizer.h"
#include "src/quant/input_channels.h"
#include "src/quant/kv_range.h"
#include "src/quant/layer_stream.h"
#include "src/quant/type_choice.h"

namespace octet {
namespace {

using kernels::FloatType;

constexpr size_t kGranule = 64;  // intermediate sizes are multiples of it

RotationOptions rotation_of(const Recipe& r) {
  RotationOptions o;
  if (const auto* step = r.find<RotateResidual>()) o.residual = step->seed;
  if (const auto* step = r.find<RotateValues>()) o.values = step->seed;
  return o;
}

// A layer after its exact changes, and what the float stream saw in it.
struct LayerWork {
  FloatLayer weights;
  std::vector<float> o_weight, down_weight;  // [tokens] of errors of o and down
  // Means over the part: inputs [hidden], states after attention and after the MLP.
  std::vector<double> qkv_input, gate_up_input, middle, end;
  std::optional<QuantParams> o_params, down_params;
  std::optional<KvCacheScales> kv;
  std::vector<GroupCost> costs;  // when measured, one a group
};

class Layerwise {
 public:
  Layerwise(const ModelFolder& folder, const CalibrationData& data, const QuantizeOptions& options,
            RunContext run)
      : folder_(folder),
        options_(options),
        recipe_(*options.recipe),
        run_(run),
        report_(run.report),
        team_(run.team),
        stored_(folder.config().dtype),
        model_(folder, rotation_of(recipe_), run.team),
        groups_(recipe_, stored_, run.team) {
    for (const TokenBatch& batch : data.samples)
      for (const std::vector<int32_t>& ids : batch) {
        lengths_.push_back(ids.size());
        ids_.insert(ids_.end(), ids.begin(), ids.end());
      }
    // Neighbouring texts in one fold: text of one kind often stands together.
    for (size_t i = 0; i < lengths_.size(); ++i)
      fold_.insert(fold_.end(), lengths_[i], static_cast<uint8_t>(i * kFolds / lengths_.size()));
    ones_.assign(ids_.size(), 1.0f);
    choose_part();
  }

  KeptInFloat run() {
    const ModelConfig& config = model_.config();
    Journal& journal = run_.journal;
    QuantizeOptions names = options_;
    if (!names.disable_names) names.disable_names.emplace();  // none by default
    kept_ = choose_by_name(config, names);
    types_ = types_of(config, kept_, Scheme::kW8A8);
    plan_copies();
    const auto budgets = recipe_.or_default<ChooseTypes>();
    const bool measured = budgets.dynamic_budget != 0 || budgets.float_budget > 0;
    const int64_t before = measured ? config.layers : 0;
    Progress progress("quantize", "layer", config.layers + before, options_.quiet);
    progress.resume_at(journal.layers_done(before, config.layers));
    ModelConfig widest = config;
    widest.intermediate_size += static_cast<int64_t>(copies_);
    scratch_ = std::make_unique<StreamScratch>(widest, lengths_, run_.memory);
    if (measured) choose_types(measure(progress), budgets, types_, kept_);
    Exporter exporter(run_.output.path(), folder_, {widest, types_}, options_);
    float_.reset();  // its memory first
    float_ = embedded(ids_, lengths_, FloatType::kF32);
    quant_ = embedded(of_part(ids_), part_lengths_,
                      recipe_.find<QuantizeKvCache>() ? FloatType::kI8 : FloatType::kF32);
    const StreamStates states = {float_->all_states(), quant_->all_states()};
    if (journal.resume(Pass::kQuantize, states)) {
      exporter.resume_at(journal.next_layer(Pass::kQuantize));
      if (report_ != nullptr) report_->restore(journal.get<std::string>("report"));
    } else {
      exporter.write_embedding([&](size_t first, size_t n) { return model_.embedding(first, n); });
    }
    for (int64_t layer = journal.next_layer(Pass::kQuantize); layer < config.layers; ++layer) {
      progress.update(layer + before, fmt::format("quantizing layer {}", layer));
      std::function<void()> write = quantize_layer(layer, exporter);
      progress.add_bytes(model_.layer_bytes(layer));
      if (report_ != nullptr) journal.put("report", report_->save());
      journal.finish_layer(Pass::kQuantize, layer, states, std::move(write));
    }
    journal.wait();
    exporter.write_final_norm(model_.final_norm());
    exporter.write_head(quantize_head(),
                        [&](size_t first, size_t n) { return model_.head(first, n); });
    exporter.finish();
    progress.update(config.layers + before);
    progress.finish();
    return kept_;
  }

 private:
  size_t tokens() const { return ids_.size(); }
  size_t hidden() const { return as_size(model_.config().hidden_size); }
  Scheme type(int64_t layer, LinearKind kind) const { return types_.at(linear_name(layer, kind)); }

  // The float pass over all layers that measures what types cost.
  std::vector<GroupCost> measure(Progress& progress) {
    Journal& journal = run_.journal;
    const int64_t layers = model_.config().layers;
    const int64_t first = journal.next_layer(Pass::kMeasure);
    std::vector<GroupCost> costs;
    if (first > 0) costs = journal.get<std::vector<GroupCost>>("costs");
    if (first >= layers) return costs;
    float_ = embedded(ids_, lengths_, FloatType::kF32);
    const StreamStates states = {float_->all_states()};
    journal.resume(Pass::kMeasure, states);
    for (int64_t layer = first; layer < layers; ++layer) {
      progress.update(layer, fmt::format("measuring layer {}", layer));
      const LayerWork work = prepare(layer, true);
      progress.add_bytes(model_.layer_bytes(layer));
      costs.insert(costs.end(), work.costs.begin(), work.costs.end());
      journal.put("costs", costs);
      journal.finish_layer(Pass::kMeasure, layer, states);
    }
    return costs;
  }

  // Every n-th text for the quantized stream.
  void choose_part() {
    const size_t every = (tokens() + kPartTokens - 1) / kPartTokens;
    size_t row = 0;
    for (size_t i = 0; i < lengths_.size(); row += lengths_[i++]) {
      if (i % every != 0) continue;
      part_lengths_.push_back(lengths_[i]);
      for (size_t t = row; t < row + lengths_[i]; ++t) part_.push_back(t);
    }
    part_ones_.assign(part_.size(), 1.0f);
    part_fold_ = of_part(fold_);
  }

  // A stream at the embedding.
  std::unique_ptr<LayerStream> embedded(const std::vector<int32_t>& ids,
                                        const std::vector<size_t>& lengths, FloatType kv) {
    auto stream =
        std::make_unique<LayerStream>(model_.config(), lengths, kv, *scratch_, run_.memory, team_);
    const std::vector<float> states = model_.embed(ids, stored_);
    std::copy(states.begin(), states.end(), stream->states());
    return stream;
  }

  // How many channels every MLP gains; none when every down_proj stays in float.
  void plan_copies() {
    const double copies = recipe_.or_default<EqualizeMlp>().copies;
    if (copies == 0) return;
    bool any = false;
    for (int64_t layer = 0; layer < model_.config().layers; ++layer)
      any = any || type(layer, LinearKind::kDown) != Scheme::kFloat;
    if (!any) return;
    const size_t now = as_size(model_.config().intermediate_size);
    const double wanted = static_cast<double>(now) * (1 + copies);
    copies_ = static_cast<size_t>(std::ceil(wanted / kGranule)) * kGranule - now;
  }

  // Runs the float stream through the layer and makes the recipe's exact changes. `measure`: finds
  // the cost of every type on the float stream's inputs, and leaves the MLP as it is.
  LayerWork prepare(int64_t index, bool measure) {
    LayerWork work;
    FloatLayer& w = work.weights = model_.layer(index);
    const auto pack = [&](size_t group) {
      return pack_float(std::as_const(w).weights_of(input_groups()[group]), team_);
    };
    DecoderLayer layer{w.input_norm, w.post_norm, pack(0), pack(1), pack(2), pack(3)};
    LayerStream& s = *float_;
    const size_t q = as_size(model_.config().q_size()), kv = as_size(model_.config().kv_size());
    KvRange keys(kv), values(kv);
    if (recipe_.find<QuantizeKvCache>())
      layer.qkv = std::make_unique<TapLinear>(
          std::move(layer.qkv), Tap(), [&](const float* y, size_t ld, size_t m) {
            const size_t half = as_size(model_.config().head_dim / 2);
            keys.observe_turned(y + q, ld, m, s.cos(), s.sin(), half);
            values.observe(y + q + kv, ld, m);
          });
    s.set_intermediate(w.at(LinearKind::kUp).shape.n);
    std::vector<float> before;
    InputError error[2];
    std::vector<float> signs[2];
    const auto see_input = [&](size_t group, const Norm& norm, std::vector<double>& mean) {
      const float* x = s.normalized(norm);
      mean = part_mean(x, ones_);
      signs[group / 2] = signs_of(mean);
      if (!measure) return;
      const std::vector<float> turned = times(x, signs[group / 2]);
      error[group / 2] = groups_.input_error({turned.data(), tokens(), hidden(), ones_, fold_, {}},
                                             std::as_const(w).weights_of(input_groups()[group]));
      before.assign(s.states(), s.states() + tokens() * hidden());
    };
    const auto see_output = [&](std::vector<float>& weight, std::vector<double>& mean) {
      weight = token_weights();
      mean = part_mean(s.states(), weight);
    };

    see_input(0, layer.input_norm, work.qkv_input);
    s.attention(layer);
    s.attention_output(layer);
    see_output(work.o_weight, work.middle);
    if (measure) {
      add_cost(work, index, 0, error[0], change(before, work.o_weight) / error[0].signal);
      add_cost(work, index, 1, attended_error(work), 1 / change({}, work.o_weight));
    } else {
      std::vector<float> scale, center;  // of the values
      // quant_bias of both holds the biases that centering makes.
      const Scheme v = type(index, LinearKind::kV), o = type(index, LinearKind::kO);
      if (const auto plan = plan_values(work, o, v == Scheme::kW8A8 && o == v)) {
        fuse(plan->scale, input_groups()[1], model_.config(), w);
        work.o_params = plan->params;
        scale = source_scale(plan->scale, kv, model_.config());
        center = plan->center;
        if (!center.empty()) {
          std::vector<float> scaled(kv);
          for (size_t i = 0; i < kv; ++i) scaled[i] = center[i] / scale[i];
          center_values(scaled, model_.config(), w);
        }
      }
      if (recipe_.find<QuantizeKvCache>())
        work.kv = KvCacheScales{keys.scale({}), values.scale(scale, center)};
    }

    see_input(2, layer.post_norm, work.gate_up_input);
    s.mlp(layer);
    s.mlp_output(layer);
    see_output(work.down_weight, work.end);
    if (measure) {
      add_cost(work, index, 2, error[1], change(before, work.down_weight) / error[1].signal);
      add_cost(work, index, 3, activated_error(work), 1 / change({}, work.down_weight));
    } else if (const std::optional<ChannelPlan> plan =
                   plan_mlp(work, type(index, LinearKind::kDown))) {
      fuse(plan->scale, input_groups()[3], model_.config(), w);
      split_channels(plan->split, w);
      work.down_params = plan->params;
    }
    if (!measure) {
      turn(0, type(index, LinearKind::kQ), signs[0], work.qkv_input, w);
      turn(2, type(index, LinearKind::kUp), signs[1], work.gate_up_input, w);
    }
    return work;
  }

  // -1 for channels that are negative on average: once they are turned, one offset for all holds
  // their means.
  std::vector<float> signs_of(const std::vector<double>& mean) const {
    std::vector<float> signs(mean.size(), 1.0f);
    if (!recipe_.find<TurnNorms>()) return signs;
    for (size_t i = 0; i < mean.size(); ++i)
      if (mean[i] < 0) signs[i] = -1;
    return signs;
  }

  // The group's input, behind its norm, times the signs; `mean` is of that input.
  void turn(size_t group, Scheme scheme, const std::vector<float>& signs, std::vector<double>& mean,
            FloatLayer& w) const {
    if (scheme != Scheme::kW8A8) return;
    fuse(signs, input_groups()[group], model_.config(), w);
    for (size_t i = 0; i < mean.size(); ++i) mean[i] *= double{signs[i]};
  }

  // Rows x [tokens, hidden] times the signs [hidden].
  std::vector<float> times(const float* x, const std::vector<float>& signs) const {
    std::vector<float> y(tokens() * hidden());
    for (size_t i = 0; i < y.size(); ++i) y[i] = x[i] * signs[i % hidden()];
    return y;
  }

  // sum_t weight |state - before|^2, relative to sum_t weight |state|^2; without `before`: the
  // latter.
  double change(const std::vector<float>& before, const std::vector<float>& weight) const {
    double moved = 0, whole = 0;
    for (size_t t = 0; t < tokens(); ++t)
      for (size_t i = t * hidden(); i < (t + 1) * hidden(); ++i) {
        const double v = double{float_->states()[i]};
        const double d = before.empty() ? 0 : v - double{before[i]};
        moved += double{weight[t]} * d * d;
        whole += double{weight[t]} * v * v;
      }
    return before.empty() ? whole : moved / whole;
  }

  void add_cost(LayerWork& work, int64_t layer, size_t group, const InputError& e, double factor) {
    GroupCost cost;
    cost.fixed = e.fixed * factor;
    cost.per_token = e.per_token * factor;
    for (LinearKind kind : input_groups()[group].kinds) {
      cost.linears.push_back(linear_name(layer, kind));
      cost.bytes += work.weights.at(kind).w.size();
    }
    work.costs.push_back(std::move(cost));
  }

  InputError attended_error(const LayerWork& work) {
    if (recipe_.find<EqualizeValues>())
      return {plan_values(work, Scheme::kW8A8, true)->error,
              plan_values(work, Scheme::kW8A8Dynamic, false)->error, 0};
    return groups_.input_error({float_->attended(),
                                tokens(),
                                work.weights.at(LinearKind::kO).shape.k,
                                work.o_weight,
                                fold_,
                                {}},
                               work.weights.weights_of(input_groups()[1]));
  }

  InputError activated_error(const LayerWork& work) {
    if (recipe_.find<EqualizeMlp>())
      return {plan_mlp(work, Scheme::kW8A8)->error, plan_mlp(work, Scheme::kW8A8Dynamic)->error, 0};
    return groups_.input_error(
        {float_->activated(), tokens(), float_->intermediate(), work.down_weight, fold_, {}},
        work.weights.weights_of(input_groups()[3]));
  }

  // What an error of one unit in a token's state counts: the inverse of its mean square, 1 on
  // average.
  std::vector<float> token_weights() const {
    std::vector<float> w(tokens());
    double total = 0;
    for (size_t t = 0; t < tokens(); ++t) {
      double sum = 0;
      for (size_t i = t * hidden(); i < (t + 1) * hidden(); ++i)
        sum += double{float_->states()[i]} * double{float_->states()[i]};
      w[t] = static_cast<float>(1 / (sum / static_cast<double>(hidden()) + 1e-12));
      total += double{w[t]};
    }
    for (float& v : w) v *= static_cast<float>(static_cast<double>(tokens()) / total);
    return w;
  }

  // Weighted mean [hidden] over the part's rows of x [tokens, hidden].
  std::vector<double> part_mean(const float* x, const std::vector<float>& weight) const {
    return weighted_mean(part_rows(x).data(), part_.size(), hidden(), of_part(weight));
  }

  template <typename T>
  std::vector<T> of_part(const std::vector<T>& all) const {
    std::vector<T> v(part_.size());
    for (size_t i = 0; i < v.size(); ++i) v[i] = all[part_[i]];
    return v;
  }

  // The part's rows of x [tokens, hidden].
  std::vector<float> part_rows(const float* x) const {
    std::vector<float> rows;
    rows.reserve(part_.size() * hidden());
    for (size_t t : part_) rows.insert(rows.end(), x + t * hidden(), x + (t + 1) * hidden());
    return rows;
  }

  // Nothing for an o_proj in float. `center`: whether v has a bias that can take the center.
  std::optional<ChannelPlan> plan_values(const LayerWork& work, Scheme scheme, bool center) {
    const auto* step = recipe_.find<EqualizeValues>();
    if (!step || scheme == Scheme::kFloat) return std::nullopt;
    const ModelConfig& c = model_.config();
    const FloatWeight& o = work.weights.at(LinearKind::kO);
    const ChannelInputs in{float_->attended(),
                           tokens(),
                           o.shape.k,
                           work.o_weight,
                           fold_,
                           &o,
                           as_size(c.heads / c.kv_heads),
                           as_size(c.head_dim)};
    ChannelOptions options;
    options.margin = step->margin;
    options.center = center;
    return plan(in, options, scheme);
  }

  // Nothing for a down_proj in float that need not grow.
  std::optional<ChannelPlan> plan_mlp(const LayerWork& work, Scheme scheme) {
    const auto* step = recipe_.find<EqualizeMlp>();
    if (!step || (copies_ == 0 && scheme == Scheme::kFloat)) return std::nullopt;
    const ChannelInputs in{float_->activated(), tokens(), float_->intermediate(),
                           work.down_weight,    fold_,    &work.weights.at(LinearKind::kDown)};
    const double noise = recipe_.gptq_damping() ? step->weight_noise : 1;
    return plan(in, {copies_, noise, step->spread, step->margin, false}, scheme);
  }

  ChannelPlan plan(const ChannelInputs& in, const ChannelOptions& options, Scheme scheme) {
    return scheme == Scheme::kW8A8 ? plan_static(in, options, stored_, team_)
                                   : plan_dynamic(in, options, team_);
  }

  // Returns the job of writing it.
  std::function<void()> quantize_layer(int64_t index, Exporter& exporter) {
    LayerWork work = prepare(index, false);
    FloatLayer& w = work.weights;
    QuantizedLayer out;
    LayerStream& s = *quant_;
    s.set_intermediate(w.at(LinearKind::kUp).shape.n);
    DecoderLayer layer{w.input_norm, w.post_norm, nullptr, nullptr, nullptr, nullptr, {}};
    const size_t q = w.at(LinearKind::kO).shape.k;
    if (work.kv) {
      const std::vector<float> zero(work.kv->k.size(), 0.0f);
      layer.kv_scales = {work.kv->k, zero, work.kv->v, zero};
      out.kv = work.kv;
    }
    layer.qkv = quantize(
        index, 0, w, out,
        {s.normalized(layer.input_norm), part_.size(), hidden(), part_ones_, part_fold_, {}},
        &work.qkv_input, nullptr);
    s.attention(layer);
    const std::vector<float> o_weight = of_part(work.o_weight);
    std::vector<double> target = missing(work.middle, o_weight);
    layer.o = quantize(index, 1, w, out,
                       {s.attended(), part_.size(), q, o_weight, part_fold_, work.o_params},
                       nullptr, &target);
    s.attention_output(layer);
    layer.gate_up = quantize(
        index, 2, w, out,
        {s.normalized(layer.post_norm), part_.size(), hidden(), part_ones_, part_fold_, {}},
        &work.gate_up_input, nullptr);
    s.mlp(layer);
    const std::vector<float> down_weight = of_part(work.down_weight);
    target = missing(work.end, down_weight);
    layer.down = quantize(
        index, 3, w, out,
        {s.activated(), part_.size(), s.intermediate(), down_weight, part_fold_, work.down_params},
        nullptr, &target);
    s.mlp_output(layer);
    if (report_ != nullptr)
      report_->add_states(index, part_rows(float_->states()).data(), s.states(),
                          part_.size() * hidden());
    return exporter.layer_job(index, std::move(w), std::move(out));
  }

  // What the quantized stream's mean state still lacks of the float stream's.
  std::vector<double> missing(const std::vector<double>& wanted,
                              const std::vector<float>& weight) const {
    std::vector<double> m = weighted_mean(quant_->states(), part_.size(), hidden(), weight);
    for (size_t i = 0; i < m.size(); ++i) m[i] = wanted[i] - m[i];
    return m;
  }

  std::unique_ptr<Linear> quantize(int64_t layer, size_t group, FloatLayer& w, QuantizedLayer& out,
                                   const GroupInput& in, const std::vector<double>* mean_input,
                                   const std::vector<double>* mean_output) {
    const InputGroup& g = input_groups()[group];
    const Scheme scheme = type(layer, g.kinds[0]);
    std::vector<QuantizedLinear> linears;
    if (scheme == Scheme::kFloat) {
      for (LinearKind kind : g.kinds)
        for (float& v : w.at(kind).w) v = round_to(v, stored_);  // as it will be stored
    } else {
      linears =
          groups_.quantize(in, std::as_const(w).weights_of(g), scheme, mean_input, mean_output);
    }
    const std::vector<std::string> names = linear_names(layer, g);
    std::unique_ptr<Linear> linear =
        build_linear(names, std::as_const(w).weights_of(g), linears, scheme, team_);
    if (report_ != nullptr)
      tell(names, scheme, in, std::as_const(w).weights_of(g), linears, linear.get());
    for (size_t i = 0; i < linears.size(); ++i) out.at(g.kinds[i]) = std::move(linears[i]);
    return linear;
  }

  void tell(const std::vector<std::string>& names, Scheme scheme, const GroupInput& in,
            const std::vector<const FloatWeight*>& weights,
            const std::vector<QuantizedLinear>& linears, Linear* linear) {
    InputSample seen(in.k, in.tokens);
    seen.add(in.x, in.k, in.tokens);
    report_->add(names, scheme, &seen, weights, linears, linear);
  }

  QuantizedLinear quantize_head() {
    if (types_.at("lm_head") == Scheme::kFloat) return {};
    const FloatWeight head = model_.head();
    const GroupInput in{quant_->normalized(model_.final_norm()),
                        part_.size(),
                        hidden(),
                        part_ones_,
                        part_fold_,
                        {}};
    std::vector<QuantizedLinear> linears =
        groups_.quantize(in, {&head}, Scheme::kW8A8, nullptr, nullptr);
    if (report_ != nullptr) tell({"lm_head"}, Scheme::kW8A8, in, {&head}, linears, nullptr);
    return std::move(linears[0]);
  }

  const ModelFolder& folder_;
  const QuantizeOptions& options_;
  const Recipe& recipe_;
  RunContext run_;
  ReportData* report_;
  ThreadTeam& team_;
  DType stored_;
  FloatModel model_;
  GroupQuantizer groups_;
  std::vector<int32_t> ids_;
  std::vector<size_t> lengths_, part_lengths_;
  std::vector<size_t> part_;  // tokens of the quantized stream
  std::vector<uint8_t> fold_, part_fold_;
  std::vector<float> ones_, part_ones_;
  std::unique_ptr<StreamScratch> scratch_;  // of both streams, which run one after the other
  std::unique_ptr<LayerStream> float_, quant_;
  KeptInFloat kept_;
  std::map<std::string, Scheme> types_;
  size_t copies_ = 0;
};

}  // namespace

KeptInFloat quantize_layerwise(const ModelFolder& folder, const CalibrationData& data,
                               const QuantizeOptions& options, RunContext run) {
  return Layerwise(folder, data, options, run).run();
}

}  // namespace octet
