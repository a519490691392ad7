// Reader of GGUF files (versions 2 and 3, little-endian): metadata and tensors, memory-mapped. A
// model that llama-gguf-split has cut is read whole from its first part, whose metadata counts.
//
// The file is not trusted: every count, length and offset is checked against what is left of the
// file before it is used, with arithmetic that cannot overflow, and nothing is allocated that the
// file's own size does not pay for. Whatever is wrong becomes an Error that names file and field.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "src/base/error.h"
#include "src/base/file.h"

namespace octet {

// Element types of tensors, numbered as in the format. Others are refused.
enum class GgufType : uint32_t {
  kF32 = 0,
  kF16 = 1,
  kQ4_0 = 2,
  kQ4_1 = 3,
  kQ5_0 = 6,
  kQ5_1 = 7,
  kQ8_0 = 8,
  kQ2_K = 10,
  kQ3_K = 11,
  kQ4_K = 12,
  kQ5_K = 13,
  kQ6_K = 14,
  kBF16 = 30,
};

struct GgufTensor {
  std::string_view name;  // views into the file
  GgufType type = GgufType::kF32;
  std::vector<uint64_t> dims;  // as stored, innermost first: a linear layer's weight is [k, n]
  uint64_t elements = 0;
  uint64_t offset = 0;  // from the start of its file
  uint64_t bytes = 0;
  size_t part = 0;  // which file of a split model
};

// One metadata value. Arrays stay in the file; the typed getters of GgufFile decode them.
struct GgufValue {
  uint32_t type = 0;                   // as in the format; kArray for arrays
  uint32_t element_type = 0;           // of an array
  uint64_t count = 1;                  // elements of an array
  std::span<const std::byte> payload;  // without the length of a string
};

class GgufFile {
 public:
  // Maps and checks the file, and the other parts of a split model beside it. Throws Error when it
  // is not a GGUF file that this reader supports, or a part other than the first.
  explicit GgufFile(const std::filesystem::path& path);
  // The same over bytes in memory, which must outlive the object; `name` stands for the file.
  GgufFile(std::span<const std::byte> bytes, std::string name);

  uint32_t version() const { return version_; }
  const std::string& name() const { return name_; }

  bool has(std::string_view key) const { return values_.contains(key); }
  // Metadata by key. Throw Error when the key is absent or its value is of another kind. Integers
  // of any width and sign are accepted where they fit, and any number for get_number.
  uint64_t get_uint(std::string_view key) const;
  double get_number(std::string_view key) const;
  bool get_bool(std::string_view key) const;
  std::string_view get_string(std::string_view key) const;
  std::vector<std::string_view> get_strings(std::string_view key) const;
  std::vector<int64_t> get_ints(std::string_view key) const;
  std::vector<std::string_view> keys() const;

  std::span<const GgufTensor> tensors() const { return tensors_; }
  const GgufTensor* find_tensor(std::string_view name) const;  // nullptr when there is none
  // The tensor's blocks as stored.
  std::span<const std::byte> bytes(const GgufTensor& tensor) const;
  // Tells the kernel that the tensor was read and need not stay in memory.
  void release(const GgufTensor& tensor) const noexcept;

 private:
  struct OnePart {};
  GgufFile(const std::filesystem::path& path, OnePart);
  void parse();
  // Reads the other parts of a split model, which lie beside this one.
  void join_parts();
  // From where the descriptions end on; sets the offsets from the start of the file.
  void place_tensors(uint64_t end_of_descriptions);
  const GgufValue& value(std::string_view key) const;
  Error error(std::string what, std::string_view field = {}) const;

  std::string name_;
  MappedFile file_;  // empty when the bytes belong to the caller
  std::span<const std::byte> bytes_;
  uint32_t version_ = 0;
  std::map<std::string_view, GgufValue> values_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string_view, size_t> tensor_index_;
  std::vector<std::unique_ptr<GgufFile>> parts_;  // of a split model, from the second on
};

}  // namespace octet
