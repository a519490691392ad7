#include "src/quant/layerwise/layerwise.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "src/base/checked.h"
#include "src/base/error.h"
#include "src/base/progress.h"
#include "src/quant/int8/encode.h"
#include "src/quant/layer/built_linear.h"
#include "src/quant/layerwise/exact_pass.h"
#include "src/quant/output/export.h"

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

class Layerwise {
 public:
  Layerwise(const ModelFolder& folder, const CalibrationData& data, const Recipe& recipe,
            const OutputSettings& output, RunContext run)
      : folder_(folder),
        recipe_(recipe),
        output_(output),
        run_(run),
        report_(run.report),
        team_(run.team),
        stored_(folder.config().dtype),
        model_(folder, rotation_of(recipe_), run.team),
        groups_(recipe_, stored_, run.team, run.ranks),
        tokens_(data) {}

  KeptInFloat run() {
    const ModelConfig& config = model_.config();
    Journal& journal = run_.journal;
    OutputSettings named = output_;
    if (!named.keep_float.names) named.keep_float.names.emplace();  // none by default
    kept_ = choose_by_name(config, named, Scheme::kW8A8);
    plan_.types = types_of(config, kept_, Scheme::kW8A8);
    plan_.kv_cache = output_.quantize_kv_cache;
    plan_copies();
    const auto budgets = recipe_.or_default<ChooseTypes>();
    const bool measured = budgets.dynamic_budget != 0 || budgets.float_budget > 0;
    const int64_t before = measured ? config.layers : 0;
    Progress progress("quantize", "layer", config.layers + before, run_.quiet);
    progress.resume_at(journal.layers_done(before, config.layers));
    ModelConfig widest = config;
    widest.intermediate_size += static_cast<int64_t>(plan_.mlp_copies);
    scratch_ = std::make_unique<StreamScratch>(widest, tokens_.lengths, run_.memory);
    if (measured) choose_types(measure(progress), budgets, plan_.types, kept_);
    Exporter exporter(run_.files, folder_, {widest, plan_.types}, output_);
    ExactPass exact = exact_pass(tokens_);
    quant_ = embedded(tokens_.of_subset(tokens_.ids), tokens_.subset_lengths,
                      plan_.kv_cache ? FloatType::kI8 : FloatType::kF32);
    const StreamStates states = {exact.stream().all_states(), quant_->all_states()};
    if (journal.resume(Pass::kQuantize, states)) {
      exporter.resume_at(journal.next_layer(Pass::kQuantize));
      if (report_ != nullptr) report_->restore(journal.get<std::string>("report"));
    } else {
      exporter.write_embedding([&](size_t first, size_t n) { return model_.embedding(first, n); });
    }
    for (int64_t layer = journal.next_layer(Pass::kQuantize); layer < config.layers; ++layer) {
      progress.update(layer + before, fmt::format("quantizing layer {}", layer));
      std::function<void()> write = quantize_layer(layer, exact, exporter);
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
  size_t hidden() const { return as_size(model_.config().hidden_size); }
  Scheme type(int64_t layer, LayerPart part) const {
    return plan_.types.at(linear_names(layer, part)[0]);
  }

  // The float pass over all layers that measures what types cost.
  std::vector<GroupCost> measure(Progress& progress) {
    Journal& journal = run_.journal;
    const int64_t layers = model_.config().layers;
    const int64_t first = journal.next_layer(Pass::kMeasure);
    std::vector<GroupCost> costs;
    if (first > 0) costs = journal.get<std::vector<GroupCost>>("costs");
    if (first >= layers) return costs;
    const CalibrationTokens some = tokens_.of_subset_only();
    ExactPass exact = exact_pass(some);
    const StreamStates states = {exact.stream().all_states()};
    journal.resume(Pass::kMeasure, states);
    for (int64_t layer = first; layer < layers; ++layer) {
      progress.update(layer, fmt::format("measuring layer {}", layer));
      const std::vector<GroupCost> found = exact.measure(layer);
      progress.add_bytes(model_.layer_bytes(layer));
      costs.insert(costs.end(), found.begin(), found.end());
      journal.put("costs", costs);
      journal.finish_layer(Pass::kMeasure, layer, states);
    }
    return costs;
  }

  // `tokens` must outlive it.
  ExactPass exact_pass(const CalibrationTokens& tokens) {
    return {model_, recipe_, tokens, plan_, embedded(tokens.ids, tokens.lengths, FloatType::kF32),
            run_};
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
      any = any || is_quantized(type(layer, LayerPart::kDown));
    if (!any) return;
    const size_t now = as_size(model_.config().intermediate_size);
    const double wanted = static_cast<double>(now) * (1 + copies);
    plan_.mlp_copies = static_cast<size_t>(std::ceil(wanted / kGranule)) * kGranule - now;
  }

  // What the quantized stream has behind a norm.
  GroupInput behind(const Norm& norm) {
    return {quant_->normalized(norm), tokens_.subset.size(), hidden(),
            tokens_.subset_ones,      tokens_.subset_fold,   {}};
  }

  // Returns the job of writing it.
  std::function<void()> quantize_layer(int64_t index, ExactPass& exact, Exporter& exporter) {
    PreparedLayer work = exact.prepare(index);
    FloatLayer& w = work.weights;
    QuantizedLayer out;
    LayerStream& s = *quant_;
    s.set_intermediate(w.up().shape.n);
    DecoderLayer layer{.norms = w.norms};
    const size_t q = w.o().shape.k;
    if (work.kv) {
      const std::vector<float> zero(work.kv->k.size(), 0.0f);
      layer.kv_params = {work.kv->k, zero, work.kv->v, zero};
      out.kv = work.kv;
    }
    layer.qkv = quantize(index, LayerPart::kQkv, w, out, behind(layer.norms[NormKind::kInput]),
                         {.input = &work.qkv_input});
    s.attention(layer);
    const std::vector<float> o_weight = tokens_.of_subset(work.o_weight);
    std::vector<double> target = missing(work.after_attention, o_weight);
    layer.o = quantize(
        index, LayerPart::kO, w, out,
        {s.attended(), tokens_.subset.size(), q, o_weight, tokens_.subset_fold, work.o_params},
        {.output = &target});
    s.attention_output(layer);
    layer.gate_up =
        quantize(index, LayerPart::kGateUp, w, out, behind(layer.norms[NormKind::kPostAttention]),
                 {.input = &work.gate_up_input});
    s.mlp(layer);
    const std::vector<float> down_weight = tokens_.of_subset(work.down_weight);
    target = missing(work.after_mlp, down_weight);
    layer.down = quantize(index, LayerPart::kDown, w, out,
                          {s.activated(), tokens_.subset.size(), s.intermediate(), down_weight,
                           tokens_.subset_fold, work.down_params},
                          {.output = &target});
    s.mlp_output(layer);
    if (report_ != nullptr)
      report_->add_states(index, tokens_.subset_rows(exact.stream().states(), hidden()).data(),
                          s.states(), tokens_.subset.size() * hidden());
    return exporter.layer_job(index, std::move(w), std::move(out));
  }

  // What the quantized stream's mean state still lacks of the float stream's.
  std::vector<double> missing(const std::vector<double>& wanted,
                              const std::vector<float>& weight) const {
    std::vector<double> m =
        weighted_mean(quant_->states(), tokens_.subset.size(), hidden(), weight, team_);
    for (size_t i = 0; i < m.size(); ++i) m[i] = wanted[i] - m[i];
    return m;
  }

  std::unique_ptr<Linear> quantize(int64_t layer, LayerPart part, FloatLayer& w,
                                   QuantizedLayer& out, const GroupInput& in,
                                   const WantedMeans& means) {
    const Scheme scheme = type(layer, part);
    const std::vector<const FloatWeight*> weights = std::as_const(w).of(part);
    const std::vector<std::string> names = linear_names(layer, part);
    std::vector<QuantizedLinear> linears;
    if (is_quantized(scheme)) {
      linears = groups_.quantize(in, weights, scheme, means);
    } else {
      for (size_t i = 0; i < names.size(); ++i)
        round_all(w.of(part)[i]->w, stored_, names[i] + ".weight");  // as it will be stored
    }
    std::unique_ptr<Linear> linear =
        build_linear(names, weights, linears, scheme, team_, run_.ranks);
    if (report_ != nullptr) add_to_report(names, scheme, in, weights, linears, linear.get());
    const std::vector<QuantizedLinear*> to = out.of(part);
    for (size_t i = 0; i < linears.size(); ++i) *to[i] = std::move(linears[i]);
    return linear;
  }

  void add_to_report(const std::vector<std::string>& names, Scheme scheme, const GroupInput& in,
                     const std::vector<const FloatWeight*>& weights,
                     const std::vector<QuantizedLinear>& linears, Linear* linear) {
    InputSample seen(in.k, in.tokens, team_.size());
    team_.run([&](Worker& w) { seen.add(w, {in.x, in.k, in.tokens}); });
    report_->add(names, scheme, &seen, weights, linears, linear);
  }

  QuantizedLinear quantize_head() {
    if (!is_quantized(plan_.types.at(kHead))) return {};
    const FloatWeight head = model_.head();
    const GroupInput in = behind(model_.final_norm());
    std::vector<QuantizedLinear> linears = groups_.quantize(in, {&head}, Scheme::kW8A8);
    if (report_ != nullptr) add_to_report({kHead}, Scheme::kW8A8, in, {&head}, linears, nullptr);
    return std::move(linears[0]);
  }

  const ModelFolder& folder_;
  const Recipe& recipe_;
  const OutputSettings& output_;
  RunContext run_;
  ReportData* report_;
  ThreadTeam& team_;
  DType stored_;
  FloatModel model_;
  GroupQuantizer groups_;
  CalibrationTokens tokens_;
  std::unique_ptr<StreamScratch> scratch_;  // of both streams, which run one after the other
  std::unique_ptr<LayerStream> quant_;
  KeptInFloat kept_;
  LinearPlan plan_;
};

}  // namespace

KeptInFloat quantize_layerwise(const ModelFolder& folder, const CalibrationData& data,
                               const Recipe& recipe, const OutputSettings& output, RunContext run) {
  return Layerwise(folder, data, recipe, output, std::move(run)).run();
}

}  // namespace octet
