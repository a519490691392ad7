#include "src/model/linear_group.h"

#include <utility>

#include "src/base/error.h"

namespace octet {

LinearGroup::LinearGroup(std::vector<std::unique_ptr<Linear>> parts) : parts_(std::move(parts)) {
  OCTET_CHECK(!parts_.empty() && parts_.size() <= kMaxParts);
  for (const auto& p : parts_) n_ += p->outputs();
}

uint64_t LinearGroup::bytes() const {
  uint64_t b = 0;
  for (const auto& p : parts_) b += p->bytes();
  return b;
}

void LinearGroup::stage(Worker& w, const Rows& in, StageBuffer& buffer, size_t slot) {
  for (size_t i = 0; i < parts_.size(); ++i) parts_[i]->stage(w, in, buffer, slot + i);
}

void LinearGroup::compute(Worker& w, const Rows& in, const Output& out, StageBuffer& buffer,
                          size_t slot) {
  Output part = out;
  for (size_t i = 0; i < parts_.size(); ++i) {
    parts_[i]->compute(w, in, part, buffer, slot + i);
    part.y += parts_[i]->outputs();
  }
}

}  // namespace octet
