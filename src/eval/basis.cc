#include "src/eval/basis.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "src/base/checked.h"
#include "src/base/file.h"
#include "src/eval/tensor_rows.h"
#include "src/model/weights.h"
#include "src/quant/settings/practice.h"
#include "src/quant/settings/recipe.h"

namespace octet {
namespace {

constexpr double kSame = 0.98;   // cosine above which two vectors are the same but for rounding
constexpr size_t kSamples = 16;  // vectors that are looked at

double cosine(const std::vector<float>& a, const std::vector<float>& b) {
  double ab = 0, aa = 0, bb = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    ab += double{a[i]} * double{b[i]};
    aa += double{a[i]} * double{a[i]};
    bb += double{b[i]} * double{b[i]};
  }
  return aa > 0 && bb > 0 ? ab / std::sqrt(aa * bb) : 1;
}

// Which of `channels` the rows of gate_proj compute, equal neighbours being copies of one; empty
// when there are not as many kinds.
std::vector<size_t> channels_of_rows(const TensorView& gate, size_t channels) {
  const size_t n = gate.shape[0], bytes = gate.data.size() / n;
  std::vector<size_t> of(n, 0);
  if (n == channels) {
    for (size_t j = 0; j < n; ++j) of[j] = j;
    return of;
  }
  for (size_t j = 1; j < n; ++j)
    of[j] = of[j - 1] + (std::memcmp(gate.data.data() + j * bytes,
                                     gate.data.data() + (j - 1) * bytes, bytes) != 0);
  if (of.back() + 1 != channels) of.clear();
  return of;
}

}  // namespace

Basis::Basis(const ModelFolder& reference, const ModelFolder& model) {
  const ModelConfig &a = reference.config(), &b = model.config();
  if (a.layers != b.layers || a.hidden_size != b.hidden_size || a.heads != b.heads ||
      a.kv_heads != b.kv_heads || a.head_dim != b.head_dim)
    return;
  if (const fs::path file = model.path() / "octet_recipe.yaml"; fs::exists(file)) {
    const Recipe recipe = load_recipe(file.string());
    if (const auto* step = recipe.find<RotateResidual>())
      residual_.emplace(as_size(a.hidden_size), step->seed);
    if (const auto* step = recipe.find<RotateValues>())
      values_.emplace(as_size(a.head_dim), step->seed);
    if (recipe.find<EqualizeValues>()) of_values_ = Freedom::kScaleAndMean;
  }
  if (const fs::path file = model.path() / "octet_practice.yaml"; fs::exists(file)) {
    const ToolMethod m = parse_practice(read_text(file), file.string(), a).method;
    if (m.rotations.residual) residual_.emplace(as_size(a.hidden_size), *m.rotations.residual);
    if (m.rotations.values) values_.emplace(as_size(a.head_dim), *m.rotations.values);
    if (m.key_smooth) of_keys_ = Freedom::kScale;
  }
  states_known_ = states_agree(reference, model);
  values_known_ = states_known_ && (residual_ || values_ || values_agree(reference, model));
  for (int64_t layer = 0; layer < a.layers; ++layer) {
    const LayerNorms before = load_norms(reference, layer), after = load_norms(model, layer);
    const auto pair = [&](NormKind kind) {
      return NormPair{before[kind].weight, after[kind].weight, after[kind].bias};
    };
    before_qkv_.push_back(pair(NormKind::kInput));
    before_gate_.push_back(pair(NormKind::kPostAttention));
    const std::string gate = linear_names(layer, LayerPart::kGateUp)[0] + ".weight";
    channel_of_.push_back(
        channels_of_rows(model.tensors().get(gate), as_size(a.intermediate_size)));
  }
}

bool Basis::states_agree(const ModelFolder& reference, const ModelFolder& model) const {
  const char* name = kEmbeddingWeight;
  const TensorRows before(reference, reference.tensors().get(name));
  const TensorRows after(model, model.tensors().get(name));
  if (before.rows() != after.rows()) return false;
  double sum = 0;
  for (size_t i = 0; i < kSamples; ++i) {
    std::vector<float> row = before.read(i * before.rows() / kSamples, 1);
    if (residual_) residual_->apply(row.data());
    sum += cosine(row, after.read(i * before.rows() / kSamples, 1));
  }
  return sum / kSamples > kSame;
}

// Without rotations: whether columns of the first o_proj are those of the reference but for their
// scales.
bool Basis::values_agree(const ModelFolder& reference, const ModelFolder& model) const {
  const std::string name = linear_names(0, LayerPart::kO)[0] + ".weight";
  const TensorRows before(reference, reference.tensors().get(name));
  const TensorRows after(model, model.tensors().get(name));
  if (before.rows() != after.rows() || before.columns() != after.columns()) return false;
  const size_t n = before.rows(), k = before.columns();
  const std::vector<float> x = before.read(0, n), y = after.read(0, n);
  double sum = 0;
  for (size_t i = 0; i < kSamples; ++i) {
    std::vector<float> a, b;
    for (size_t j = 0; j < n; ++j) {
      a.push_back(x[j * k + i * k / kSamples]);
      b.push_back(y[j * k + i * k / kSamples]);
    }
    sum += cosine(a, b);
  }
  return sum / kSamples > kSame;
}

bool Basis::input(size_t layer, LayerPart part, std::vector<float>& reference,
                  std::vector<float>& model) const {
  if (part == LayerPart::kO) return rotate_heads(reference);
  if (part == LayerPart::kDown) return fold(layer, reference.size(), false, model);
  if (!states_known_) return false;
  const NormPair& norm = (part == LayerPart::kQkv ? before_qkv_ : before_gate_)[layer];
  if (residual_) {
    for (size_t i = 0; i < reference.size(); ++i)
      if (norm.reference[i] != 0) reference[i] /= norm.reference[i];
    residual_->apply(reference.data());
  }
  for (size_t i = 0; i < reference.size(); ++i) {
    // Norms that are equal change nothing, to the last bit.
    const float before = residual_ || norm.reference[i] == 0 ? 1 : norm.reference[i];
    reference[i] *= norm.model[i] / before;
    if (!norm.bias.empty()) reference[i] += norm.bias[i];
  }
  return true;
}

bool Basis::output(size_t layer, LinearKind kind, std::vector<float>& reference,
                   std::vector<float>& model) const {
  switch (kind) {
    case LinearKind::kQ:
    case LinearKind::kK:
      return reference.size() == model.size();
    case LinearKind::kV:
      return rotate_heads(reference);
    case LinearKind::kO:
    case LinearKind::kDown:
      if (states_known_ && residual_) residual_->apply(reference.data());
      return states_known_;
    case LinearKind::kGate:
    case LinearKind::kUp:
      return fold(layer, reference.size(), kind == LinearKind::kGate, model);
  }
  OCTET_CHECK(false);
}

// Copies of a channel into one: their mean, or their sum.
bool Basis::fold(size_t layer, size_t channels, bool mean, std::vector<float>& model) const {
  if (channel_of_.empty() || channel_of_[layer].size() != model.size()) return false;
  std::vector<float> folded(channels, 0.0f), copies(channels, 0.0f);
  for (size_t i = 0; i < model.size(); ++i) {
    folded[channel_of_[layer][i]] += model[i];
    copies[channel_of_[layer][i]] += 1;
  }
  if (mean)
    for (size_t c = 0; c < channels; ++c) folded[c] /= copies[c];
  model = std::move(folded);
  return true;
}

bool Basis::rotate_heads(std::vector<float>& row) const {
  if (values_known_ && values_)
    for (size_t i = 0; i < row.size(); i += values_->size()) values_->apply(row.data() + i);
  return values_known_;
}

}  // namespace octet
