#include "src/quant/msmodelslim/samplewise.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "src/base/error.h"
#include "src/model/linear_group.h"
#include "src/model/weights.h"
#include "src/quant/int8/encode.h"
#include "src/quant/layer/built_linear.h"
#include "src/quant/layer/float_model.h"
#include "src/quant/layer/shared_linear.h"
#include "src/quant/msmodelslim/calibration_linear.h"
#include "src/quant/output/export.h"
#include "src/quant/settings/model_type.h"

namespace octet {
namespace {

constexpr double kHistogramBelow = 50;  // act_method 3: the score up to which it takes histograms

// What the tool refuses too, in one line each.
void check_types(const ModelConfig& config, const ToolMethod& m, const KeepFloat& keep) {
  if (m.asymmetric_weights && !is_weight_only(m.scheme))
    throw usage_error("asymmetric weights (--w_sym False) go with --a_bit 16 only");
  if (is_weight_only(m.scheme) && m.anti_method == AntiMethod::kM6 &&
      !find_model_type(config, keep.model_type).flex_of_weights)
    throw usage_error(fmt::format("--anti_method m6 of model type {} does not go with --a_bit 16",
                                  find_model_type(config, keep.model_type).name));
}

class Samplewise {
 public:
  Samplewise(const ModelFolder& folder, const CalibrationData& data, const ToolMethod& method,
             const OutputSettings& output, RunContext run)
      : folder_(folder),
        data_(data),
        method_(method),
        output_(output),
        run_(run),
        report_(run.report),
        team_(run.team),
        model_(folder, method.rotations, run.team) {
    if (data.samples.empty()) method_.disable_level = 0;
    check_types(folder_.config(), method_, output.keep_float);
  }

  KeptInFloat run() {
    const ModelConfig& config = model_.config();
    Journal& journal = run_.journal;
    kept_ = method_.types.empty() ? choose_by_name(config, output_, method_.scheme)
                                  : choose_by_types(config, method_.types);
    if (method_.disable_threshold > 0)
      threshold_candidates(config, output_.keep_float);  // refuses names
    const bool measured = needs_analysis(method_, output_);
    const int64_t before = measured ? config.layers : 0;
    Progress progress("quantize", "layer", config.layers + before, run_.quiet);
    progress.resume_at(journal.layers_done(before, config.layers));
    if (measured) {
      analysis_ = journal.next_layer(Pass::kMeasure) > config.layers
                      ? journal.get<Analysis>("analysis")
                      : analyze(model_, data_, method_, output_, run_, progress);
      if (method_.disable_threshold > 0)
        kept_ = choose_by_threshold(config, output_, method_.disable_threshold,
                                    analysis_.threshold_scores);
      choose_by_score(analysis_.scores, method_.disable_level, keeps_groups_whole(output_.layout),
                      kept_);
    }
    types_ = types_of(config, kept_, method_.scheme);
    for (const auto& [name, scheme] : method_.types)
      if (!kept_.contains(name)) types_.at(name) = scheme;
    Exporter exporter(run_.files, folder_, {config, types_, method_}, output_);
    const auto embed = [&](const std::vector<int32_t>& ids) { return model_.embed(ids, stored()); };
    for (const auto& [name, scheme] : types_)
      if (has_static_input(scheme) && !stream_)
        stream_ =
            std::make_unique<CalibrationStream>(config, embed, data_.samples, run_.memory, team_);
    const StreamStates states = stream_ ? StreamStates{stream_->all_states()} : StreamStates{};
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
    const Norm norm = model_.final_norm();
    exporter.write_final_norm(norm);
    exporter.write_head(quantize_head(norm),
                        [&](size_t first, size_t n) { return model_.head(first, n); });
    exporter.finish();
    progress.update(config.layers + before);
    progress.finish();
    return kept_;
  }

 private:
  DType stored() const { return stored_types(output_.layout, folder_.config().dtype).floats; }

  std::unique_ptr<Observer> make_observer(const std::string& linear) const {
    bool histogram = method_.act_method == ActMethod::kHistogram;
    if (method_.act_method == ActMethod::kAuto)
      histogram = analysis_.score(linear) <= kHistogramBelow;
    std::unique_ptr<Observer> observer =
        histogram ? make_histogram_observer(team_.size(), is_msmodelslim_v0(output_.layout))
        : method_.range_rule.extremes ? make_extremes_observer(team_.size())
                                      : make_minmax_observer(team_.size());
    return method_.range_rule.symmetric ? make_symmetric(std::move(observer)) : std::move(observer);
  }

  RoundedWeight round(const FloatWeight& w) {
    return round_weight(w.w, w.shape.n, w.shape.k, method_.asymmetric_weights, team_);
  }

  // Returns the job of writing it.
  std::function<void()> quantize_layer(int64_t layer, Exporter& exporter) {
    FloatLayer weights = model_.layer(layer);
    if (!analysis_.smoothing.empty())
      smooth_layer(analysis_, layer, model_.config(), stored(), weights);
    QuantizedLayer linears;
    for (const LayerLinear& l : layer_linears(model_.config(), layer)) {
      FloatWeight& w = weights.at(l.kind);
      if (kept_.contains(l.full_name)) {
        round_all(w.w, stored(), l.full_name + ".weight");  // as it will be stored
        continue;
      }
      linears.at(l.kind).rounded = round(w);
    }
    if (!analysis_.kv.empty()) linears.kv = analysis_.kv[static_cast<size_t>(layer)];
    std::vector<InputSample> seen;  // by group
    if (stream_) calibrate(layer, weights, linears, seen);
    if (report_ != nullptr) report(layer, weights, linears, seen);
    return exporter.layer_job(layer, std::move(weights), std::move(linears));
  }

  // `seen`: filled for the report, if there is one.
  void calibrate(int64_t layer, const FloatLayer& weights, QuantizedLayer& linears,
                 std::vector<InputSample>& seen) {
    calibrating_.clear();
    if (report_ != nullptr)
      for (const PartRow& row : part_rows())
        seen.emplace_back(weights.of(row.part)[0]->shape.k, calibration_tokens(data_),
                          team_.size());
    DecoderLayer decoder{.norms = weights.norms};
    for (const PartRow& row : part_rows()) {
      std::unique_ptr<Linear> linear = build_part(layer, row.part, weights, linears);
      if (report_ != nullptr) {
        InputSample& sample = seen[static_cast<size_t>(row.part)];
        linear = std::make_unique<TapLinear>(
            std::move(linear), [&sample](Worker& w, const Rows& x) { sample.add(w, x); }, Tap());
      }
      decoder.part(row.part) = std::move(linear);
    }
    try {
      stream_->run_layer(decoder, [&] {
        for (const auto& [quantized, linear] : calibrating_) quantized->input = linear->params();
      });
    } catch (Error& e) {
      if (!e.tensor_name().empty()) throw;
      throw std::move(e).tensor(layer_prefix(layer) + "*");
    }
  }

  Scheme type_of(int64_t layer, LayerPart part) const {
    return types_.at(linear_names(layer, part)[0]);
  }

  // Without the tool's own layout the linears of a part have one type.
  void report(int64_t layer, const FloatLayer& weights, const QuantizedLayer& linears,
              const std::vector<InputSample>& seen) {
    for (const PartRow& row : part_rows()) {
      const std::vector<std::string> names = linear_names(layer, row.part);
      std::vector<QuantizedLinear> quantized;
      for (const QuantizedLinear* q : linears.of(row.part))
        if (q->rounded) quantized.push_back(*q);
      const InputSample* input = seen.empty() ? nullptr : &seen[static_cast<size_t>(row.part)];
      const Scheme scheme = type_of(layer, row.part);
      std::unique_ptr<Linear> linear;  // of W8A8_MIX the static side
      if (input != nullptr && has_static_input(scheme))
        linear =
            build_linear(names, weights.of(row.part), quantized, Scheme::kW8A8, team_, run_.ranks);
      report_->add(names, scheme, input, weights.of(row.part), quantized, linear.get());
    }
  }

  // The linears of a part side by side: neighbours that are all int8, or all float, as one.
  std::unique_ptr<Linear> build_part(int64_t layer, LayerPart part, const FloatLayer& weights,
                                     QuantizedLayer& linears) {
    const std::vector<std::string> names = linear_names(layer, part);
    const std::vector<const FloatWeight*> floats = weights.of(part);
    const std::vector<QuantizedLinear*> of_part = linears.of(part);
    const Scheme scheme = type_of(layer, part);
    if (scales_per_token(scheme) && !has_static_input(scheme)) {
      // Beside static parts; its own is of one type.
      std::vector<QuantizedLinear> quantized;
      for (const QuantizedLinear* q : of_part) quantized.push_back(*q);
      return build_linear(names, floats, quantized, scheme, team_, run_.ranks);
    }
    std::vector<std::unique_ptr<Linear>> groups;
    for (size_t i = 0; i < of_part.size();) {
      const size_t first = i;
      const bool rounded = of_part[first]->rounded.has_value();
      while (i < of_part.size() && of_part[i]->rounded.has_value() == rounded) ++i;
      if (!rounded) {
        const auto begin = floats.begin();
        groups.push_back(shared(
            pack_float({begin + static_cast<ptrdiff_t>(first), begin + static_cast<ptrdiff_t>(i)},
                       team_),
            run_.ranks));
        continue;
      }
      std::vector<CalibrationLinear::Member> run;
      for (size_t at = first; at < i; ++at)
        run.push_back({&*of_part[at]->rounded, &floats[at]->bias});
      auto linear = std::make_unique<CalibrationLinear>(
          run, floats[first]->shape.k, make_observer(names[first]), stored(), team_, run_.ranks);
      for (size_t at = first; at < i; ++at) calibrating_.emplace_back(of_part[at], linear.get());
      groups.push_back(std::move(linear));
    }
    if (groups.size() == 1) return std::move(groups[0]);
    return std::make_unique<LinearGroup>(std::move(groups));
  }

  QuantizedLinear quantize_head(const Norm& norm) {
    QuantizedLinear head;
    if (kept_.contains(kHead)) return head;
    const FloatWeight w = model_.head();
    head.rounded = round(w);
    const Scheme scheme = types_.at(kHead);
    InputSample seen(w.shape.k, calibration_tokens(data_), team_.size());
    if (has_static_input(scheme)) {
      const std::unique_ptr<Observer> observer = make_observer(kHead);
      stream_->tap(norm, [&](Worker& worker, const Rows& x) {
        observer->observe(worker, x, w.shape.k);
        seen.add(worker, x);
      });
      head.input = params_of(observer->range(), stored());
    }
    if (report_ != nullptr)
      report_->add({kHead}, scheme, has_static_input(scheme) ? &seen : nullptr, {&w}, {head},
                   nullptr);
    return head;
  }

  const ModelFolder& folder_;
  const CalibrationData& data_;
  ToolMethod method_;
  const OutputSettings& output_;
  RunContext run_;
  ReportData* report_;
  ThreadTeam& team_;
  FloatModel model_;  // as it is, nothing merged
  Analysis analysis_;
  KeptInFloat kept_;
  std::map<std::string, Scheme> types_;
  std::unique_ptr<CalibrationStream> stream_;  // none for types without static ranges
  std::vector<std::pair<QuantizedLinear*, const CalibrationLinear*>> calibrating_;
};

}  // namespace

KeptInFloat quantize_samplewise(const ModelFolder& folder, const CalibrationData& data,
                                const ToolMethod& method, const OutputSettings& output,
                                RunContext run) {
  return Samplewise(folder, data, method, output, std::move(run)).run();
}

}  // namespace octet
