#include "src/eval/compare.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>

#include "src/base/decibels.h"
#include "src/base/json_member.h"
#include "src/eval/tensor_rows.h"

namespace octet {
namespace {

using Kind = TensorDifference::Kind;

std::string stored(const TensorView& t) {
  return fmt::format("{} {}", dtype_name(t.dtype), shape_string(t.shape));
}

bool same_bytes(const TensorView& a, const TensorView& b) {
  return a.dtype == b.dtype && a.shape == b.shape && a.data.size() == b.data.size() &&
         std::memcmp(a.data.data(), b.data.data(), a.data.size()) == 0;
}

// Nothing when values differ that are not finite.
std::optional<ValueDifference> difference(const TensorRows& a, const TensorRows& b) {
  const size_t part = std::max<size_t>(1, (size_t{1} << 20) / std::max<size_t>(1, a.columns()));
  double largest = 0, top = 0;
  SignalNoise sums;
  for (size_t first = 0; first < a.rows(); first += part) {
    const size_t count = std::min(part, a.rows() - first);
    const std::vector<float> x = a.read(first, count), y = b.read(first, count);
    for (size_t i = 0; i < x.size(); ++i) {
      const double v = double{x[i]}, w = double{y[i]};
      if (!std::isfinite(v) || !std::isfinite(w)) {
        if (v != w && !(std::isnan(v) && std::isnan(w))) return std::nullopt;
        continue;
      }
      largest = std::max(largest, std::fabs(w - v));
      top = std::max(top, std::fabs(v));
      sums.add(v, w);
    }
  }
  return ValueDifference{largest, top > 0 ? largest / top : 0, sums.ratio()};
}

TensorDifference compare(const ModelFolder& fa, const TensorView& a, const ModelFolder& fb,
                         const TensorView& b) {
  TensorDifference d{a.name, Kind::kShape, stored(a), stored(b), {}};
  if (a.shape != b.shape) return d;
  const TensorRows rows_a(fa, a), rows_b(fb, b);
  // Equal int8 weights with other scales are other weights.
  if (same_bytes(a, b) && !rows_a.dequantized() && !rows_b.dequantized()) {
    d.kind = Kind::kSame;
    return d;
  }
  d.values = difference(rows_a, rows_b);
  d.kind = !d.values               ? Kind::kNotFinite
           : d.values->largest > 0 ? Kind::kValues
           : same_bytes(a, b)      ? Kind::kSame
                                   : Kind::kStored;
  if (d.kind == Kind::kSame) d.values.reset();
  return d;
}

std::vector<LayerDifference> by_layer(const std::vector<TensorDifference>& tensors) {
  std::map<int64_t, LayerDifference> layers;
  for (const TensorDifference& t : tensors) {
    const auto number = layer_of(t.name);
    if (!number) continue;
    LayerDifference& l = layers[*number];
    l.layer = *number;
    ++(t.kind == Kind::kSame    ? l.same
       : t.kind == Kind::kOnlyA ? l.only_a
       : t.kind == Kind::kOnlyB ? l.only_b
                                : l.different);
    if (!t.values || !t.values->snr || !t.name.ends_with(".weight")) continue;
    if (!l.lowest_snr || *t.values->snr < *l.lowest_snr) {
      l.lowest_snr = t.values->snr;
      l.lowest_name = t.name;
    }
  }
  std::vector<LayerDifference> list;
  for (const auto& [number, layer] : layers) list.push_back(layer);
  return list;
}

std::vector<std::string> config_keys(const ordered_json& a, const ordered_json& b) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : a.items())
    if (const ordered_json* other = find_member(b, key.c_str());
        other == nullptr ? !value.is_null() : *other != value)
      keys.push_back(key);
  for (const auto& [key, value] : b.items())
    if (!value.is_null() && !a.contains(key)) keys.push_back(key);
  return keys;
}

}  // namespace

const char* TensorDifference::word(Kind kind) {
  switch (kind) {
    case Kind::kSame:
      return "same";
    case Kind::kStored:
      return "same values, stored otherwise";
    case Kind::kValues:
      return "other values";
    case Kind::kNotFinite:
      return "other values, not all finite";
    case Kind::kShape:
      return "other shape";
    case Kind::kOnlyA:
      return "only in A";
    case Kind::kOnlyB:
      return "only in B";
  }
  OCTET_CHECK(false);
}

bool Comparison::equal() const {
  return config.empty() && std::all_of(tensors.begin(), tensors.end(),
                                       [](const auto& t) { return t.kind == Kind::kSame; });
}

Comparison compare_folders(const ModelFolder& a, const ModelFolder& b) {
  Comparison c;
  c.config = config_keys(a.config().raw, b.config().raw);
  for (const TensorView* t : a.tensors().all()) {
    const TensorView* other = b.tensors().find(t->name);
    if (other == nullptr)
      c.tensors.push_back({t->name, Kind::kOnlyA, stored(*t), "", {}});
    else
      c.tensors.push_back(compare(a, *t, b, *other));
  }
  for (const TensorView* t : b.tensors().all())
    if (a.tensors().find(t->name) == nullptr)
      c.tensors.push_back({t->name, Kind::kOnlyB, "", stored(*t), {}});
  c.layers = by_layer(c.tensors);
  return c;
}

ordered_json to_json(const Comparison& c) {
  ordered_json tensors = ordered_json::array(), layers = ordered_json::array();
  for (const TensorDifference& t : c.tensors) {
    ordered_json& row = tensors.emplace_back(
        ordered_json{{"name", t.name}, {"result", TensorDifference::word(t.kind)}});
    if (!t.a.empty()) row["a"] = t.a;
    if (!t.b.empty()) row["b"] = t.b;
    if (!t.values) continue;
    row["largest"] = t.values->largest;
    row["relative"] = t.values->relative;
    if (t.values->snr) row["snr"] = *t.values->snr;
  }
  for (const LayerDifference& l : c.layers) {
    ordered_json& row = layers.emplace_back(ordered_json{{"layer", l.layer},
                                                         {"same", l.same},
                                                         {"different", l.different},
                                                         {"only_a", l.only_a},
                                                         {"only_b", l.only_b}});
    if (!l.lowest_snr) continue;
    row["lowest_snr"] = *l.lowest_snr;
    row["lowest"] = l.lowest_name;
  }
  return {{"equal", c.equal()}, {"config", c.config}, {"layers", layers}, {"tensors", tensors}};
}

}  // namespace octet
