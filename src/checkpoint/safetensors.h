// safetensors: reading one file, and all weight files of a model folder.
//
// Goals: never trust the file (every length, offset and shape is checked with overflow-proof
// arithmetic before use, and data ranges must tile the data part without overlap or hole), never
// copy it (tensors are views of the mapping). Data may be unaligned: read it through the helpers.
#pragma once

#include <cstddef>
#include <cstring>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/checkpoint/dtype.h"

namespace octet {

using Shape = std::vector<uint64_t>;
std::string shape_string(const Shape& shape);  // "[2, 3]"

// A tensor inside a mapped file; valid while the SafetensorsFile lives.
struct TensorView {
  std::string name;
  DType dtype = DType::kF32;
  Shape shape;
  std::span<const std::byte> data;
  const MappedFile* file = nullptr;

  uint64_t elements() const { return data.size() / dtype_size(dtype); }
  // Throws Error naming file and tensor unless dtype and shape are as expected.
  void expect_shape(const Shape& expected) const;
  void expect(DType expected_dtype, const Shape& expected_shape) const;
  // The elements as they are stored: T has the dtype's size.
  template <typename T>
  std::vector<T> values() const {
    OCTET_CHECK(sizeof(T) == dtype_size(dtype));
    std::vector<T> out(elements());
    std::memcpy(out.data(), data.data(), data.size());
    return out;
  }
  // `count` elements from `first` on, as a tensor without a shape.
  TensorView part(uint64_t first, uint64_t count) const;
  // The elements as float (F32, F16, BF16; others throw).
  void to_floats(float* out) const;
  std::vector<float> floats() const;
  // Throws Error naming the tensor when a float value is NaN or infinite.
  void expect_finite() const;
  // Tells the system that the bytes will not be read again soon (streaming over large models).
  void release() const;
  // Tells it that they will be read soon.
  void will_need() const;
};

class SafetensorsFile {
 public:
  // Throws Error (naming the file, tensor and field) for anything that is not a valid file.
  explicit SafetensorsFile(const fs::path& path);

  const std::vector<TensorView>& tensors() const { return tensors_; }  // in order of their data
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  const fs::path& path() const { return file_->path(); }

 private:
  std::unique_ptr<MappedFile> file_;  // pointer: its address is stored in the tensors
  std::vector<TensorView> tensors_;
  std::map<std::string, std::string> metadata_;
};

// Every tensor of a folder: the files named by an index (`*.safetensors.index.json`) or, without
// one, all `*.safetensors`, in order of their names. As transformers reads them, a file that the
// index names for a tensor overlays those before it; a name in two files is an Error otherwise, and
// so are an index entry whose tensor is in another file and a file name that is not plain.
class TensorStore {
 public:
  explicit TensorStore(const fs::path& folder);

  const TensorView* find(const std::string& name) const;                // nullptr when absent
  const TensorView& get(const std::string& name) const;                 // throws Error when absent
  const std::vector<const TensorView*>& all() const { return order_; }  // file by file
  const std::vector<std::unique_ptr<SafetensorsFile>>& files() const { return files_; }
  uint64_t total_bytes() const;
  // Entries of the index that no file has a tensor for.
  const std::vector<std::string>& unstored() const { return unstored_; }
  // From now on the tensor `name`, which must be there, is called `other`.
  void rename(const std::string& name, const std::string& other);

 private:
  fs::path folder_;
  std::vector<std::unique_ptr<SafetensorsFile>> files_;
  std::map<std::string, const TensorView*> by_name_;
  std::vector<const TensorView*> order_;
  std::vector<std::string> unstored_;
  std::vector<std::unique_ptr<TensorView>> renamed_;
};

}  // namespace octet
