// What the tensors of quantized linears and of an int8 KV cache must be: one home for the rules
// that loading and `octet check` share (docs/formats.md).
#pragma once

#include <optional>
#include <span>
#include <string>
#include <vector>

#include "src/checkpoint/model_folder.h"

namespace octet {

// Those of the folder's form.
std::span<const QuantTensor> quant_tensors(const ModelFolder& folder, Scheme scheme);

// Whether a tensor has the form of the rule's, for a linear with `n` outputs.
bool fits(const TensorView& t, const QuantTensor& rule, uint64_t n);

struct TensorProblem {
  std::string problem, expected, found;
};
// The first thing that is wrong with the tensor of a linear with `n` outputs, or nothing.
std::optional<TensorProblem> problem_of(const TensorView& t, const QuantTensor& rule, uint64_t n);

// Throws Error for the first tensor of `rules` below `prefix` that is missing or wrong (spare ones
// aside).
void expect_quant_tensors(const ModelFolder& folder, const std::string& prefix,
                          std::span<const QuantTensor> rules, uint64_t n);

// The values of such a tensor as float: of any float type, int8, int32, or deq_scale (the bits of a
// float32 in an int64, or float32 itself).
std::vector<float> quant_values(const TensorView& t);

// Of a quantized linear `prefix` in either form, whose tensors are as expected: the quantization of
// a static input; the scales [n] of its weights; the sums [n] of its int8 weights [n, k].
struct InputQuant {
  float scale = 1, offset = 0;
};
InputQuant input_quant(const ModelFolder& folder, const std::string& prefix);
std::vector<float> weight_scales(const ModelFolder& folder, const std::string& prefix, uint64_t n);
std::vector<int64_t> row_sums(const TensorView& weight);

}  // namespace octet
