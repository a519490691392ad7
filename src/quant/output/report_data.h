// What the report on a quantization shows, gathered while it goes on: of every linear its type, the
// range of its input and what rounding cost on calibration text. Written as
// quantization_report.json (docs/formats.md), from which the page is made.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "src/base/json.h"
#include "src/quant/int8/quantized_layer.h"
#include "src/quant/layer/float_layer.h"
#include "src/quant/settings/layer_choice.h"

namespace octet {

// An input that linears share, as calibration shows it: the extremes over all tokens, and some
// tokens, spread evenly over all, whole.
class InputSample {
 public:
  static constexpr size_t kRows = 256;

  // `tokens`: how many will come; `workers`: of the team that will add them.
  InputSample(size_t k, size_t tokens, size_t workers) : k_(k), tokens_(tokens), ranges_(workers) {}
  // SPMD. The next tokens x [m, k].
  void add(Worker& w, const Rows& x);

  size_t k() const { return k_; }
  size_t rows() const { return rows_.size() / k_; }
  const std::vector<float>& values() const { return rows_; }  // [rows, k]
  Range range() const;                                        // of all tokens, and zero

 private:
  size_t k_, tokens_, seen_ = 0;
  std::vector<float> rows_;
  std::vector<Range> ranges_;  // by worker
};

class ReportData {
 public:
  ReportData(DType stored, ThreadTeam& team) : stored_(stored), team_(team) {}

  // Linears `names` of one input, in `scheme`, in order of execution. `quantized`: empty for
  // kFloat; `linear`: the group as it will be computed, or null where that is not to be compared.
  // `seen` is null without calibration.
  void add(const std::vector<std::string>& names, Scheme scheme, const InputSample* seen,
           const std::vector<const FloatWeight*>& weights,
           const std::vector<QuantizedLinear>& quantized, Linear* linear);
  // The states [count] after a layer, of the float and of the quantized stream.
  void add_states(int64_t layer, const float* reference, const float* states, size_t count);

  // {"linears": [...], "layers": [...], "histograms": [...]}
  ordered_json json(const KeptInFloat& kept) const;

  // All that was added so far, and back.
  std::string save() const;
  void restore(const std::string& saved);

 private:
  struct Histogram {
    std::vector<std::string> names;
    double snr;
    Range seen;
    std::optional<Range> chosen;
    std::vector<size_t> counts;
  };
  void add_input(const std::vector<std::string>& names, Scheme scheme, const InputSample& seen,
                 const QuantParams& params, ordered_json& input);
  std::vector<std::optional<double>> output_snr(const InputSample& seen,
                                                const std::vector<const FloatWeight*>& weights,
                                                Linear& linear);
  double weight_snr(const FloatWeight& weight, const RoundedWeight& rounded);

  DType stored_;
  ThreadTeam& team_;
  std::vector<ordered_json> linears_, layers_;
  std::vector<Histogram> histograms_;
};

}  // namespace octet
