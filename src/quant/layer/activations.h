// Memory for the activations of calibration: up to a budget in memory, beyond it in a file.
#pragma once

#include <cstddef>
#include <cstdint>

#include "src/base/file.h"
#include "src/machine/memory.h"

namespace octet {

class ActivationMemory;

// Floats, zero at first, in memory or in a mapped file. Move-only.
class Activations {
 public:
  Activations() = default;
  ~Activations();
  Activations(Activations&& other) noexcept;
  Activations& operator=(Activations&& other) noexcept;
  Activations(const Activations&) = delete;
  Activations& operator=(const Activations&) = delete;

  float* data() { return data_; }
  const float* data() const { return data_; }
  size_t size() const { return size_; }
  std::span<float> span() { return {data_, size_}; }
  bool in_file() const { return data_ != nullptr && memory_.data() == nullptr; }
  // [first, first + count) is not needed for a while: what lies in a file leaves this process's
  // memory (and the machine's, once written, when it is short of that).
  void release_rows(size_t first, size_t count) const noexcept;

 private:
  friend class ActivationMemory;
  ActivationMemory* owner_ = nullptr;
  Buffer<float> memory_;   // or a file
  float* data_ = nullptr;  // [size_]
  size_t size_ = 0;
};

class ActivationMemory {
 public:
  // `folder`: where the file goes. It has no name, so it vanishes with the run. `budget`: bytes
  // that may be in memory.
  ActivationMemory(fs::path folder, uint64_t budget) : folder_(std::move(folder)), left_(budget) {}
  // `count` floats; this must outlive them. Throws Error when neither memory nor disk has room: the
  // file's space is reserved at once.
  Activations get(size_t count);
  uint64_t in_file() const { return in_file_; }  // bytes

 private:
  friend class Activations;
  fs::path folder_;
  uint64_t left_, in_file_ = 0;
};

}  // namespace octet
