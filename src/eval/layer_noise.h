// Signal-to-noise, in decibels, at the input and the output of every linear: a float model's
// stream beside those of quantized ones, on the same tokens.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "src/base/json.h"
#include "src/model/transformer.h"

namespace octet {

// One linear of a quantized model beside that of the reference.
struct LinearNoise {
  std::string name;  // "model.layers.0.self_attn.q_proj"
  std::string type;  // "W8A8"
  // Of rounding the linear's input, as it arrives, to int8; nothing for float inputs.
  std::optional<double> rounding;
  // Of its input and its output against the float model's; nothing where the two have no channels
  // in common.
  std::optional<double> input, output;
};

// Gathers them while the models run.
class LayerNoise {
 public:
  // Watches the models for as long as they live; the first is the reference. Each is to run the
  // same steps, the reference first.
  explicit LayerNoise(const std::vector<Transformer*>& models);
  ~LayerNoise();
  // From now on the models compute other things.
  void stop() { watching_ = false; }
  // Of model 1, 2, ...; in order of execution.
  std::vector<LinearNoise> of(size_t model) const;

 private:
  struct Seen {               // what went through a part of the reference in the last step
    std::vector<float> x, y;  // [m, k], [m, n]
  };
  struct Watched;  // a model that is compared

  void compare(Watched& model, size_t layer, LayerPart part, const Rows& x);
  void compare_output(Watched& model, size_t layer, LayerPart part, const Rows& y);

  bool watching_ = true;
  std::vector<std::array<Seen, 4>> seen_;  // by layer and part
  std::vector<std::unique_ptr<Watched>> models_;
};

// A list of {"name", "type", "rounding", "input", "output"}; what is unknown is left out.
ordered_json to_json(const std::vector<LinearNoise>& linears);

}  // namespace octet
