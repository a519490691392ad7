#include "src/quant/relayout/relayout_source.h"

#include <cmath>

#include "src/base/error.h"
#include "src/base/json_member.h"
#include "src/checkpoint/quant_tensors.h"
#include "src/checkpoint/scheme.h"

namespace octet {
namespace {

// The scale w for which input * w is `deq`, or the nearest to it.
float weight_scale_of(float deq, float input) {
  const float w = deq / input;
  for (float v : {w, std::nextafter(w, 0.0f), std::nextafter(w, INFINITY)})
    if (input * v == deq) return v;
  return w;
}

}  // namespace

std::vector<int64_t> StaticLinear::bias_levels() const {
  std::vector<int64_t> levels(quant_bias.size());
  for (size_t j = 0; j < levels.size(); ++j)
    levels[j] = quant_bias[j] + static_cast<int64_t>(input.offset) * row_sum[j];
  return levels;
}

QuantizedSource::QuantizedSource(const fs::path& path) : folder_(path) {
  if (!folder_.quantized())
    throw usage_error(
        "a float checkpoint has no other layout; octet quantize makes a quantized "
        "one")
        .file(path.string());
  const ordered_json& raw = config().raw;
  const ordered_json* dictionary = find_member(raw, "quantization_config");
  const bool pdmix = dictionary != nullptr && dictionary->is_object() &&
                     dictionary->value("pdmix", ordered_json()) == true;
  const fs::path description = description_file();
  if (folder_.compressed_tensors()) {
    layout_ = Layout::kCompressedTensors;
  } else if (!description.empty() && description.filename() != kDescriptionFile) {
    layout_ = Layout::kMindie;
  } else if (!tensors().files().empty() &&
             tensors().files()[0]->path().filename().string().starts_with(
                 weights_stem(Layout::kMsmodelslimV1, ""))) {
    layout_ = Layout::kMsmodelslimV1;
  } else {
    layout_ = dictionary != nullptr ? Layout::kOctet : Layout::kMsmodelslim;
  }
  for (const auto& [name, shape, rows, columns] : linears_of(config())) {
    Scheme scheme = folder_.scheme(name);
    if (pdmix && is_static(scheme)) scheme = Scheme::kW8A8Mix;  // no word for it there
    schemes_[name] = scheme;
    if (const TensorView* bias = find(name + ".bias")) bias->expect_shape({shape.n});
    if (is_quantized(scheme)) {
      tensors().get(name + ".weight").expect(DType::kI8, {shape.n, shape.k});
      expect_quant_tensors(folder_, name, quant_tensors(folder_, scheme), shape.n);
    }
  }
}

StaticLinear QuantizedSource::static_linear(const std::string& name, const LinearShape& s) const {
  StaticLinear l;
  l.row_sum = row_sums(tensors().get(name + ".weight"));
  const InputQuant input = input_quant(folder_, name);
  l.input.scale = input.scale;
  l.input.offset = input.offset;
  if (layout_ == Layout::kCompressedTensors) {
    RoundedWeight w;
    w.scale = l.weight_scale = weight_scales(folder_, name, s.n);
    w.sum = l.row_sum;
    const TensorView* bias = find(name + ".bias");
    l.deq_scale = octet::deq_scale(w, l.input);
    l.quant_bias = octet::quant_bias(
        name, w, l.input, bias == nullptr ? std::vector<float>() : bias->floats(), false);
    return l;
  }
  l.deq_scale = quant_values(tensors().get(name + suffix::kDeqScale));
  l.quant_bias = tensors().get(name + suffix::kQuantBias).values<int32_t>();
  if (const TensorView* spare = find(name + suffix::kWeightScale))
    l.weight_scale = quant_values(*spare);
  l.weight_scale.resize(s.n);
  for (size_t j = 0; j < s.n; ++j)  // deq_scale is what loaders compute with
    if (l.input.scale * l.weight_scale[j] != l.deq_scale[j])
      l.weight_scale[j] = weight_scale_of(l.deq_scale[j], l.input.scale);
  return l;
}

ordered_json QuantizedSource::plain_config() const {
  ordered_json c = config().raw;
  c.erase("quantization_config");
  c.erase("quantize");
  return c;
}

fs::path QuantizedSource::description_file() const {
  const std::vector<fs::path> files = description_files(path());
  return files.empty() ? fs::path() : files[0];
}

}  // namespace octet
