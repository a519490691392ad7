// Where two checkpoints differ: tensor by tensor, and summed up by layer.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "src/base/json.h"
#include "src/checkpoint/model_folder.h"

namespace octet {

// How two values that a shape has in common differ. Int8 weights count with their scales.
struct ValueDifference {
  double largest = 0;         // |b - a|
  double relative = 0;        // largest over the largest |a|
  std::optional<double> snr;  // of a over b - a, in decibels; nothing when a is zero
};

// One tensor of A, of B, or of both.
struct TensorDifference {
  // Equal bytes; equal values in other bytes; other values; other values that are not all finite,
  // so that no figure says how far apart they are; other shapes; in one of the two only.
  enum class Kind { kSame, kStored, kValues, kNotFinite, kShape, kOnlyA, kOnlyB };
  std::string name;
  Kind kind = Kind::kSame;
  std::string a, b;                       // "BF16 [2, 3]"; empty where there is none
  std::optional<ValueDifference> values;  // kStored (other bytes, equal values) and kValues

  static const char* word(Kind kind);  // "other values", as tables and JSON show it
};

// The tensors of one layer, counted.
struct LayerDifference {
  int64_t layer = 0;
  size_t same = 0, different = 0, only_a = 0, only_b = 0;  // tensors
  std::optional<double> lowest_snr;                        // of its weights, and where
  std::string lowest_name;
};

// All of two checkpoints.
struct Comparison {
  std::vector<std::string> config;        // keys of config.json that differ
  std::vector<TensorDifference> tensors;  // in A's order, then what only B has
  std::vector<LayerDifference> layers;
  bool equal() const;  // every tensor is kSame, and no key differs
};

// Reads every tensor of both; values (of int8 weights: with their scales) are compared where the
// shapes are equal. Throws Error for a dtype that no tensor of a checkpoint has.
Comparison compare_folders(const ModelFolder& a, const ModelFolder& b);
// What `octet compare --json` prints: {"equal", "config", "layers", "tensors"}.
ordered_json to_json(const Comparison& comparison);

}  // namespace octet
