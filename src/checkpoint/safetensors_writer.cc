#include "src/checkpoint/safetensors_writer.h"

#include <fmt/format.h>

#include <set>
#include <utility>

#include "src/base/checked.h"
#include "src/base/error.h"
#include "src/base/json.h"

namespace octet {

uint64_t TensorSpec::bytes() const {
  return checked_mul(checked_product(shape, "tensor shape"), dtype_size(dtype), "tensor size");
}

SafetensorsWriter::SafetensorsWriter(const fs::path& folder, std::vector<TensorSpec> tensors,
                                     WriterOptions options)
    : folder_(folder), tensors_(std::move(tensors)), options_(std::move(options)) {
  std::set<std::string> names;
  uint64_t pending = 0;
  size_t shard = 0;
  for (const TensorSpec& t : tensors_) {
    OCTET_CHECK(names.insert(t.name).second);
    if (options_.part_bytes > 0 && pending > 0 && pending + t.bytes() >= options_.part_bytes) {
      ++shard;
      pending = 0;
    }
    pending += t.bytes();
    shard_of_.push_back(shard);
  }
}

SafetensorsWriter::~SafetensorsWriter() = default;

std::string SafetensorsWriter::file_name(size_t shard) const {
  if (shards() == 1) return options_.stem + ".safetensors";
  return fmt::format("{}-{:05}-of-{:05}.safetensors", options_.stem, shard + 1, shards());
}

uint64_t SafetensorsWriter::total_bytes() const {
  uint64_t n = 0;
  for (const TensorSpec& t : tensors_) n += t.bytes();
  return n;
}

// The file's first bytes: the length of the JSON text, and that.
std::string SafetensorsWriter::header(size_t shard) const {
  // Spaced as Python's json module does, which is how other writers' headers look.
  std::string text = "{";
  if (options_.metadata) text += R"("__metadata__": {"format": "pt"})";
  uint64_t offset = 0;
  for (size_t i = 0; i < tensors_.size(); ++i) {
    if (shard_of_[i] != shard) continue;
    const TensorSpec& t = tensors_[i];
    text += fmt::format(R"({}{}: {{"dtype": "{}", "shape": {}, "data_offsets": [{}, {}]}})",
                        text.size() > 1 ? ", " : "", json(t.name).dump(), dtype_name(t.dtype),
                        shape_string(t.shape), offset, offset + t.bytes());
    offset += t.bytes();
  }
  text += '}';
  text.resize((text.size() + 7) / 8 * 8, ' ');  // data starts 8-byte aligned
  const uint64_t size = text.size();
  return std::string(reinterpret_cast<const char*>(&size), sizeof size) + text;
}

void SafetensorsWriter::open_shard(size_t shard) {
  file_ = std::make_unique<OutputFile>(folder_ / file_name(shard));
  file_->write(header(shard));
}

void SafetensorsWriter::sync() {
  if (file_) file_->sync();
}

void SafetensorsWriter::resume_at(size_t next) {
  OCTET_CHECK(next_ == 0 && appended_ == 0 && next <= tensors_.size());
  uint64_t size = 0;
  for (; next_ < next; ++next_) {
    const size_t shard = shard_of_[next_];
    if (size == 0) size = header(shard).size();
    size += tensors_[next_].bytes();
    if (next_ + 1 < next && shard_of_[next_ + 1] == shard) continue;
    file_ = std::make_unique<OutputFile>(folder_ / file_name(shard), size);
    size = 0;
  }
}

void SafetensorsWriter::write(const std::string& name, std::span<const std::byte> data) {
  OCTET_CHECK(next_ < tensors_.size() && appended_ == 0);
  OCTET_CHECK(tensors_[next_].bytes() == data.size());
  append(name, data);
}

void SafetensorsWriter::append(const std::string& name, std::span<const std::byte> data) {
  OCTET_CHECK(next_ < tensors_.size());
  OCTET_CHECK(tensors_[next_].name == name);
  const uint64_t size = tensors_[next_].bytes();
  OCTET_CHECK(data.size() <= size - appended_);
  if (appended_ == 0 && (next_ == 0 || shard_of_[next_] != shard_of_[next_ - 1])) {
    if (file_) file_->close();
    open_shard(shard_of_[next_]);
  }
  file_->write(data);
  appended_ += data.size();
  if (appended_ < size) return;
  appended_ = 0;
  ++next_;
}

void SafetensorsWriter::finish() {
  OCTET_CHECK(next_ == tensors_.size());
  if (file_) file_->close();
  file_.reset();
  if (shards() <= 1) return;
  ordered_json map = ordered_json::object();
  for (size_t i = 0; i < tensors_.size(); ++i) map[tensors_[i].name] = file_name(shard_of_[i]);
  const ordered_json index = {{"metadata", {{"total_size", total_bytes()}}}, {"weight_map", map}};
  write_text(folder_ / (options_.stem + ".safetensors.index.json"), index.dump(2));
}

}  // namespace octet
