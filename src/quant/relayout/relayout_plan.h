// What a checkpoint will be in another layout; for relayout.cc.
#pragma once

#include <functional>
#include <set>
#include <string>
#include <vector>

#include "src/checkpoint/safetensors_writer.h"
#include "src/quant/relayout/relayout_source.h"

namespace octet {

// A tensor of the output; make() gives its bytes when it is written.
struct PlannedTensor {
  TensorSpec spec;
  std::string type;  // in the description
  std::function<std::vector<std::byte>()> make;
};

// A whole folder in the layout, its weights not yet made.
struct LayoutPlan {
  std::string stem;      // of the weight files
  bool metadata = true;  // WriterOptions::metadata
  std::vector<PlannedTensor> tensors;
  std::string config;                         // the text of config.json
  std::string description_name, description;  // "" = none
  std::vector<std::string> notes;
};

// `source` must outlive the plan. Throws Error for what the layout cannot hold.
LayoutPlan plan_layout(const QuantizedSource& source, Layout to);
// plan_layout() for the layouts of Ascend's tools, and for compressed-tensors.
LayoutPlan plan_ascend(const QuantizedSource& source, Layout to);
LayoutPlan plan_compressed_tensors(const QuantizedSource& source);

// Builds the list of tensors.
class PlanBuilder {
 public:
  PlanBuilder(const QuantizedSource& source, LayoutPlan& plan) : source_(source), plan_(plan) {}

  // A tensor that is made.
  void make(const std::string& name, DType dtype, Shape shape, const std::string& type,
            std::function<std::vector<std::byte>()> bytes);
  // The stored tensor `from` under the name `name`, as it is.
  void copy(const std::string& name, const TensorView& from, const std::string& type);
  // A float tensor in `wanted` if that holds every value, otherwise as it is.
  void copy_float(const std::string& name, const TensorView& from, DType wanted);
  void make_zeros(const std::string& name, DType dtype, Shape shape, const std::string& type);
  // Throws Error for the first stored tensor that has not been used, rope's frequencies excepted.
  void refuse_unused() const;
  // The stored tensor `name` has gone into another.
  void mark_used(const std::string& name) { used_.insert(name); }

 private:
  const QuantizedSource& source_;
  LayoutPlan& plan_;
  std::set<std::string> used_;
};

}  // namespace octet
