// The float stream of a recipe: what it sees in a layer decides the layer's exact changes, or
// measures what each type would cost there.
#pragma once

#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "src/machine/memory.h"
#include "src/quant/layer/float_model.h"
#include "src/quant/layer/layer_stream.h"
#include "src/quant/layerwise/calibration_tokens.h"
#include "src/quant/layerwise/group_quantizer.h"
#include "src/quant/layerwise/input_channels.h"
#include "src/quant/layerwise/type_choice.h"
#include "src/quant/output/run_context.h"

namespace octet {

// A layer after its exact changes, and what the float stream saw in it.
struct PreparedLayer {
  FloatLayer weights;
  std::vector<float> o_weight, down_weight;  // [tokens] of errors of o and down
  // Means over the part: inputs [hidden], states after attention and after the MLP.
  std::vector<double> qkv_input, gate_up_input, after_attention, after_mlp;
  std::optional<QuantParams> o_params, down_params;
  std::optional<KvCacheScales> kv;
};

// What the linears are to become.
struct LinearPlan {
  std::map<std::string, Scheme> types;  // of all, by full name
  size_t mlp_copies = 0;                // channels that every MLP gains
  bool kv_cache = false;                // int8
};

class ExactPass {
 public:
  // `stream` stands at the embedding, with all `tokens`. All references must outlive the pass.
  ExactPass(const FloatModel& model, const Recipe& recipe, const CalibrationTokens& tokens,
            const LinearPlan& plan, std::unique_ptr<LayerStream> stream, const RunContext& run);

  // Either takes the stream through the layer, which must be the next.
  PreparedLayer prepare(int64_t index);
  // One a part.
  std::vector<GroupCost> measure(int64_t index);

  LayerStream& stream() { return *stream_; }

 private:
  size_t hidden() const { return stream_->hidden(); }
  Scheme type(int64_t layer, LayerPart part) const {
    return linears_.types.at(linear_names(layer, part)[0]);
  }
  DecoderLayer packed(const FloatLayer& w) const;
  std::vector<float> signs_of(const std::vector<double>& mean) const;
  void flip(LayerPart part, Scheme scheme, const std::vector<float>& signs,
            std::vector<double>& mean, FloatLayer& w) const;
  InputError error_behind(const Norm& norm, LayerPart part, const FloatLayer& w);
  InputError attended_error(const FloatLayer& w, const std::vector<float>& weight);
  InputError activated_error(const FloatLayer& w, const std::vector<float>& weight);
  double energy(const std::vector<float>& weight) const;
  Buffer<float> copy_of_states() const;
  template <typename OfValue>
  std::vector<double> by_token(const OfValue& of_value) const;
  std::vector<double> squares() const;
  double change(const Buffer<float>& before, const std::vector<float>& weight) const;
  std::vector<float> token_weights() const;
  std::vector<double> mean_state(const std::vector<float>& weight) const;
  std::optional<ChannelPlan> plan_values(const FloatLayer& w, const std::vector<float>& weight,
                                         Scheme scheme, bool center);
  std::optional<ChannelPlan> plan_mlp(const FloatLayer& w, const std::vector<float>& weight,
                                      Scheme scheme);
  ChannelPlan plan(const ChannelInputs& in, const ChannelOptions& options, Scheme scheme);

  const FloatModel& model_;
  const Recipe& recipe_;
  const CalibrationTokens& tokens_;
  const LinearPlan& linears_;
  std::unique_ptr<LayerStream> stream_;
  DType stored_;
  ThreadTeam& team_;
  Communicator& ranks_;
  GroupQuantizer groups_;
};

}  // namespace octet
