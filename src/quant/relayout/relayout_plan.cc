#include "src/quant/relayout/relayout_plan.h"

#include <algorithm>

#include "src/base/error.h"

namespace octet {
namespace {

bool holds_all(const TensorView& t, DType dtype) {
  if (dtype == DType::kF32) return true;
  const std::vector<float> values = t.floats();
  return std::all_of(values.begin(), values.end(),
                     [&](float v) { return round_to(v, dtype) == v; });
}

}  // namespace

LayoutPlan plan_layout(const QuantizedSource& source, Layout to) {
  return to == Layout::kCompressedTensors ? plan_compressed_tensors(source)
                                          : plan_ascend(source, to);
}

void PlanBuilder::make(const std::string& name, DType dtype, Shape shape, const std::string& type,
                       std::function<std::vector<std::byte>()> bytes) {
  plan_.tensors.push_back({{name, dtype, std::move(shape)}, type, std::move(bytes)});
}

void PlanBuilder::copy(const std::string& name, const TensorView& from, const std::string& type) {
  mark_used(from.name);
  make(name, from.dtype, from.shape, type, [&from] {
    std::vector<std::byte> data = bytes_of(from.data);
    from.release();
    return data;
  });
}

void PlanBuilder::copy_float(const std::string& name, const TensorView& from, DType wanted) {
  if (from.dtype == wanted || !holds_all(from, wanted)) return copy(name, from, kFloatWord);
  mark_used(from.name);
  make(name, wanted, from.shape, kFloatWord,
       [&from, wanted] { return encode(from.floats(), wanted); });
}

void PlanBuilder::make_zeros(const std::string& name, DType dtype, Shape shape,
                             const std::string& type) {
  const TensorSpec spec{name, dtype, shape};
  make(name, dtype, std::move(shape), type,
       [spec] { return std::vector<std::byte>(spec.bytes()); });
}

void PlanBuilder::refuse_unused() const {
  for (const TensorView* t : source_.tensors().all())
    if (!used_.contains(t->name) && !t->name.ends_with(kRopeBuffer))
      throw Error("the other layout has no place for this tensor")
          .file(t->file->path().string())
          .tensor(t->name)
          .remedy("octet check says what loaders make of it");
}

}  // namespace octet
