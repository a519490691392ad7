#include "src/quant/quantizer.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/base/error.h"
#include "src/base/progress.h"
#include "src/model/weights.h"
#include "src/quant/analysis.h"
#include "src/quant/calibration_linear.h"
#include "src/quant/encode.h"
#include "src/quant/export.h"

namespace octet {
namespace {

constexpr double kHistogramBelow = 50;  // act_method 3: the score up to which it takes histograms

void check_samples(const std::vector<std::vector<int32_t>>& samples, const ModelConfig& config) {
  if (samples.empty())
    throw usage_error("no calibration samples: static W8A8 needs them to learn input ranges");
  for (size_t i = 0; i < samples.size(); ++i) {
    if (samples[i].empty() || samples[i].size() > static_cast<size_t>(config.max_position))
      throw Error("a calibration sample of the wrong length", ErrorKind::kUsage)
          .field(fmt::format("sample {}", i))
          .expected(fmt::format("1 to {} tokens", config.max_position))
          .found(std::to_string(samples[i].size()));
    for (int32_t id : samples[i])
      if (id < 0 || id >= config.vocab_size)
        throw Error("a calibration token is outside the vocabulary", ErrorKind::kUsage)
            .field(fmt::format("sample {}", i))
            .expected(fmt::format("0 to {}", config.vocab_size - 1))
            .found(std::to_string(id));
  }
}

class Quantizer {
 public:
  Quantizer(const fs::path& model, const std::vector<std::vector<int32_t>>& samples,
            const QuantizeOptions& options)
      : folder_(model), samples_(samples), options_(options) {
    if (folder_.quantized())
      throw Error("the model is quantized already", ErrorKind::kUsage)
          .file(model.string())
          .remedy("start from the float checkpoint");
    check_samples(samples, folder_.config());
  }

  QuantizeSummary run(const fs::path& target) {
    QuantizeSummary summary;
    summary.kept = choose_by_name(folder_.config(), options_);
    OutputFolder output(target, options_.overwrite);
    const int64_t layers = folder_.config().layers;
    const bool measured = needs_analysis(options_);
    Progress progress("quantize", "layer", layers * (measured ? 2 : 1), options_.quiet);
    if (measured) {
      analysis_ = analyze(folder_, samples_, options_, team_, progress);
      choose_by_score(analysis_.scores, options_.disable_level, !options_.compat_msmodelslim,
                      summary.kept);
    }
    kept_ = &summary.kept;
    Exporter exporter(output.path(), folder_, summary.kept, options_);
    exporter.write_embedding();
    CalibrationStream stream(folder_, samples_, team_);
    for (int64_t layer = 0; layer < layers; ++layer) {
      progress.update(layer + (measured ? layers : 0), fmt::format("quantizing layer {}", layer));
      quantize_layer(layer, stream, exporter);
    }
    const Norm norm = load_norm(folder_, "model.norm");
    exporter.write_final_norm(norm);
    exporter.write_head(quantize_head(norm, stream));
    exporter.finish();
    output.commit();
    progress.update(layers * (measured ? 2 : 1));
    progress.finish();
    summary.seconds = progress.elapsed_seconds();
    return summary;
  }

 private:
  DType stored() const { return stored_dtype(folder_.config(), options_); }

  std::unique_ptr<Observer> make_observer(const std::string& linear) const {
    bool histogram = options_.act_method == ActMethod::kHistogram;
    if (options_.act_method == ActMethod::kAuto)
      histogram = analysis_.score(linear) <= kHistogramBelow;
    return histogram ? make_histogram_observer() : make_minmax_observer();
  }

  void quantize_layer(int64_t layer, CalibrationStream& stream, Exporter& exporter) {
    FloatLayer weights = load_float_layer(folder_, layer);
    if (!analysis_.smoothing.empty()) smooth_layer(analysis_, layer, stored(), weights);
    QuantizedLayer linears;
    for (LinearKind kind : kLinearKinds) {
      FloatWeight& w = weights.at(kind);
      if (kept_->contains(linear_name(layer, kind))) {
        for (float& v : w.w) v = round_to(v, stored());  // as it will be stored
        continue;
      }
      linears[static_cast<size_t>(kind)].rounded = round_weight(w.w, w.shape.n, w.shape.k, team_);
    }
    calibrating_.clear();
    std::vector<std::unique_ptr<Linear>> groups;
    for (const InputGroup& group : input_groups())
      groups.push_back(build_group(layer, group, weights, linears));
    stream.run(DecoderLayer{weights.input_norm, weights.post_norm, std::move(groups[0]),
                            std::move(groups[1]), std::move(groups[2]), std::move(groups[3])},
               [&] {
                 for (const auto& [kind, linear] : calibrating_)
                   linears[static_cast<size_t>(kind)].input = linear->params();
               });
    exporter.write_layer(layer, weights, linears);
  }

  // The linears of a group side by side: neighbours that are all int8, or all float, as one.
  std::unique_ptr<Linear> build_group(int64_t layer, const InputGroup& group,
                                      const FloatLayer& weights, const QuantizedLayer& linears) {
    std::vector<std::unique_ptr<Linear>> parts;
    for (size_t i = 0; i < group.kinds.size();) {
      const auto rounded = [&](size_t at) -> const std::optional<RoundedWeight>& {
        return linears[static_cast<size_t>(group.kinds[at])].rounded;
      };
      const size_t first = i;
      while (i < group.kinds.size() && rounded(i).has_value() == rounded(first).has_value()) ++i;
      if (!rounded(first)) {
        std::vector<const FloatWeight*> run;
        for (size_t at = first; at < i; ++at) run.push_back(&weights.at(group.kinds[at]));
        parts.push_back(pack_float(run, team_));
        continue;
      }
      std::vector<CalibrationLinear::Part> run;
      for (size_t at = first; at < i; ++at)
        run.push_back({&*rounded(at), &weights.at(group.kinds[at]).bias});
      auto linear = std::make_unique<CalibrationLinear>(
          run, weights.at(group.kinds[first]).shape.k,
          make_observer(linear_name(layer, group.kinds[first])), stored(), team_);
      for (size_t at = first; at < i; ++at)
        calibrating_.emplace_back(group.kinds[at], linear.get());
      parts.push_back(std::move(linear));
    }
    if (parts.size() == 1) return std::move(parts[0]);
    return std::make_unique<LinearGroup>(std::move(parts));
  }

  QuantizedLinear quantize_head(const Norm& norm, CalibrationStream& stream) {
    QuantizedLinear head;
    if (kept_->contains("lm_head")) return head;
    const FloatWeight w = load_float_head(folder_);
    head.rounded = round_weight(w.w, w.shape.n, w.shape.k, team_);
    const std::unique_ptr<Observer> observer = make_observer("lm_head");
    stream.tap(norm, [&](const float* x, size_t, size_t m) {
      observer->observe({x, m * w.shape.k});
    });
    head.input = params_of(observer->range(), stored());
    return head;
  }

  ModelFolder folder_;
  const std::vector<std::vector<int32_t>>& samples_;
  const QuantizeOptions& options_;
  ThreadTeam team_;
  Analysis analysis_;
  const KeptInFloat* kept_ = nullptr;
  std::vector<std::pair<LinearKind, const CalibrationLinear*>> calibrating_;
};

// q_proj, down_proj, norm, embed_tokens, lm_head: the module's own name.
std::string role_of(const std::string& tensor) {
  const size_t end = tensor.rfind('.');
  const size_t begin = tensor.rfind('.', end - 1);
  const std::string module = tensor.substr(begin + 1, end - begin - 1);
  return module.ends_with("norm") || module == "module" ? "norms" : module;
}

void summarize(const ModelFolder& before, const ModelFolder& after, QuantizeSummary& s) {
  const auto row = [&](const std::string& role, const std::string& type) -> SummaryRow& {
    for (SummaryRow& r : s.rows)
      if (r.role == role && r.type == type) return r;
    return s.rows.emplace_back(SummaryRow{role, type});
  };
  const auto type_of = [&](const std::string& tensor) {
    const std::string* type =
        after.description()->find(tensor.substr(0, tensor.rfind('.')) + ".weight");
    return type == nullptr ? std::string("FLOAT") : *type;
  };
  for (const TensorView* t : after.tensors().all()) {
    SummaryRow& r = row(role_of(t->name), type_of(t->name));
    if (t->name.ends_with(".weight")) ++r.count;
    r.bytes_after += t->data.size();
  }
  for (const TensorView* t : before.tensors().all())
    row(role_of(t->name), type_of(t->name)).bytes_before += t->data.size();
  s.bytes_before = before.tensors().total_bytes();
  s.bytes_after = after.tensors().total_bytes();
}

}  // namespace

QuantizeSummary quantize(const fs::path& model, const fs::path& target,
                         const std::vector<std::vector<int32_t>>& samples,
                         const QuantizeOptions& options) {
  refuse_overlap(model, target);
  const fs::path place = fs::weakly_canonical(fs::absolute(target));
  QuantizeSummary summary = Quantizer(model, samples, options).run(place);
  summarize(ModelFolder(model), ModelFolder(place), summary);
  return summary;
}

}  // namespace octet
