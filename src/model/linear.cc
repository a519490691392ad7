#include "src/model/linear.h"

#include "src/kernels/kernels.h"

namespace octet {

using kernels::table;

StageBuffer::StageBuffer(size_t rows, size_t max_k, size_t slots)
    : rows_(rows),
      slot_bytes_(rows * stride(max_k) * table().act_bytes),
      data_(std::make_shared<Buffer<uint8_t>>(slot_bytes_ * slots)),
      scales_(std::make_shared<Buffer<float>>(rows * slots)) {}

// The 64 keeps rows off one cache set when k is a multiple of 4096.
size_t StageBuffer::stride(size_t k) { return kernels::padded_k(table(), k) + 64; }

uint8_t* StageBuffer::row(size_t slot, size_t r, size_t k) {
  return data_->data() + slot * slot_bytes_ + r * stride(k) * table().act_bytes;
}

}  // namespace octet
