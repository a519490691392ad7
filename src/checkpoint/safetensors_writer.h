// Streaming writer of safetensors files: the tensors are declared first (names, types, shapes), so
// shards and headers are known, then their data is written one after another. The model is never
// in memory.
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "src/base/file.h"
#include "src/checkpoint/dtype.h"
#include "src/checkpoint/safetensors.h"

namespace octet {

struct TensorSpec {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  uint64_t bytes() const;
};

struct WriterOptions {
  // File names: `<stem>.safetensors`, or `<stem>-00001-of-0000N.safetensors` plus
  // `<stem>.safetensors.index.json` when there is more than one shard.
  std::string stem = "model";
  // A new shard starts when the current one plus the next tensor would reach this size in bytes;
  // 0 = one file.
  uint64_t part_bytes = 0;
  // `__metadata__` is {"format": "pt"} (what transformers demands) unless switched off.
  bool metadata = true;
};

class SafetensorsWriter {
 public:
  // Writes into `folder`, which must exist. Tensor names must be unique.
  SafetensorsWriter(const fs::path& folder, std::vector<TensorSpec> tensors, WriterOptions options);
  ~SafetensorsWriter();

  // The next tensor's data, in the declared order; name and size must match the declaration.
  void write(const std::string& name, std::span<const std::byte> data);
  // The next bytes of the next tensor, which is done when all are there: for large ones.
  void append(const std::string& name, std::span<const std::byte> data);
  template <typename T>
  void write(const std::string& name, const std::vector<T>& data) {
    write(name, std::as_bytes(std::span(data)));
  }
  // What is written so far to disk.
  void sync();
  // Goes on at tensor number `next`: an earlier run with the same declaration wrote those before
  // it, and perhaps more, which is cut off. Throws Error when its files are not as it left them.
  void resume_at(size_t next);
  // Flushes everything and writes the index. Every declared tensor must have been written.
  void finish();

  size_t shards() const { return shard_of_.empty() ? 0 : shard_of_.back() + 1; }
  std::string file_name(size_t shard) const;
  uint64_t total_bytes() const;

 private:
  std::string header(size_t shard) const;
  void open_shard(size_t shard);

  fs::path folder_;
  std::vector<TensorSpec> tensors_;
  std::vector<size_t> shard_of_;  // per tensor
  WriterOptions options_;
  size_t next_ = 0;
  uint64_t appended_ = 0;  // bytes of tensor next_ that are written
  std::unique_ptr<OutputFile> file_;
};

}  // namespace octet
