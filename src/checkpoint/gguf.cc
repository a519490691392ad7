#include "src/checkpoint/gguf.h"

#include <fmt/format.h>

#include <bit>
#include <cstring>
#include <utility>

#include "src/base/checked.h"
#include "src/checkpoint/gguf_dequant.h"

namespace octet {
namespace {

// Value types of the format.
enum : uint32_t {
  kUint8 = 0,
  kInt8 = 1,
  kUint16 = 2,
  kInt16 = 3,
  kUint32 = 4,
  kInt32 = 5,
  kFloat32 = 6,
  kBool = 7,
  kString = 8,
  kArray = 9,
  kUint64 = 10,
  kInt64 = 11,
  kFloat64 = 12,
};

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint64_t kMaxKeys = 1 << 16;
constexpr uint64_t kMaxTensors = 1 << 20;
constexpr uint64_t kMaxNameBytes = 4096;
constexpr uint64_t kMaxAlignment = 1 << 16;
constexpr uint32_t kMaxDims = 4;

// Bytes of a value of fixed size; 0 for strings, arrays and types that do not exist.
size_t fixed_size(uint32_t type) {
  switch (type) {
    case kUint8:
    case kInt8:
    case kBool:
      return 1;
    case kUint16:
    case kInt16:
      return 2;
    case kUint32:
    case kInt32:
    case kFloat32:
      return 4;
    case kUint64:
    case kInt64:
    case kFloat64:
      return 8;
    default:
      return 0;
  }
}

template <typename T>
T load(const std::byte* from) {
  T value;
  std::memcpy(&value, from, sizeof value);
  return value;
}

// Reads forward through the file's head; every step is checked against what is left.
class Cursor {
 public:
  Cursor(std::span<const std::byte> bytes, const std::string& file) : bytes_(bytes), file_(file) {}

  std::span<const std::byte> take(uint64_t size, std::string_view what) {
    if (size > bytes_.size() - at_) {
      throw Error("the file ends too early")
          .file(file_)
          .field(std::string(what))
          .expected(fmt::format("{} bytes at offset {}", size, at_))
          .found(fmt::format("{} bytes", bytes_.size() - at_));
    }
    const auto part = bytes_.subspan(at_, size);
    at_ += size;
    return part;
  }
  template <typename T>
  T number(std::string_view what) {
    return load<T>(take(sizeof(T), what).data());
  }
  std::string_view string(std::string_view what, uint64_t max = UINT64_MAX) {
    const auto size = number<uint64_t>(what);
    if (size > max) {
      throw Error("a string is too long")
          .file(file_)
          .field(std::string(what))
          .found(fmt::format("{} bytes", size));
    }
    const auto part = take(size, what);
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }
  uint64_t at() const { return at_; }
  uint64_t left() const { return bytes_.size() - at_; }

 private:
  std::span<const std::byte> bytes_;
  const std::string& file_;
  size_t at_ = 0;
};

// Arithmetic on a tensor's numbers; what overflows becomes an Error that names file and tensor.
template <typename Sum>
uint64_t for_tensor(const std::string& file, std::string_view tensor, Sum&& sum) {
  try {
    return sum();
  } catch (const Error& e) {
    throw Error(e.message()).file(file).tensor(std::string(tensor));
  }
}

// The string at `at` in the payload of an array of strings that parse() has walked through.
std::string_view string_at(std::span<const std::byte> payload, size_t& at) {
  const auto size = load<uint64_t>(payload.data() + at);
  const std::string_view text(reinterpret_cast<const char*>(payload.data()) + at + 8, size);
  at += 8 + size;
  return text;
}

// A fixed-size integer or bool as 64 bits; nothing when it is no integer or, with the sign that
// the caller wants, does not fit.
std::optional<int64_t> as_int(uint32_t type, const std::byte* p) {
  switch (type) {
    case kUint8:
    case kBool:
      return load<uint8_t>(p);
    case kInt8:
      return load<int8_t>(p);
    case kUint16:
      return load<uint16_t>(p);
    case kInt16:
      return load<int16_t>(p);
    case kUint32:
      return load<uint32_t>(p);
    case kInt32:
      return load<int32_t>(p);
    case kInt64:
      return load<int64_t>(p);
    case kUint64: {
      const auto v = load<uint64_t>(p);
      if (v > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
      return static_cast<int64_t>(v);
    }
    default:
      return std::nullopt;
  }
}

GgufValue read_value(Cursor& cursor, const std::string& file, std::string_view key) {
  auto unknown = [&](uint32_t type) {
    return Error("unknown type of a metadata value")
        .file(file)
        .field(std::string(key))
        .found(std::to_string(type));
  };
  GgufValue v;
  v.type = cursor.number<uint32_t>(key);
  if (v.type == kString) {
    v.payload = std::as_bytes(std::span(cursor.string(key)));
    return v;
  }
  if (v.type != kArray) {
    const size_t size = fixed_size(v.type);
    if (size == 0) throw unknown(v.type);
    v.payload = cursor.take(size, key);
    return v;
  }
  v.element_type = cursor.number<uint32_t>(key);
  v.count = cursor.number<uint64_t>(key);
  const size_t size = fixed_size(v.element_type);
  // Arrays of arrays exist in the format but in no file that this program has a use for.
  if (size == 0 && v.element_type != kString) throw unknown(v.element_type);
  // A string takes at least its length's eight bytes.
  const size_t at_least = size == 0 ? 8 : size;
  if (v.count > cursor.left() / at_least) {
    throw Error("the file ends too early")
        .file(file)
        .field(std::string(key))
        .expected(fmt::format("{} elements", v.count))
        .found(fmt::format("{} bytes", cursor.left()));
  }
  if (size > 0) {
    v.payload = cursor.take(v.count * size, key);
    return v;
  }
  Cursor walk = cursor;
  for (uint64_t i = 0; i < v.count; ++i) walk.string(key);
  v.payload = cursor.take(walk.at() - cursor.at(), key);
  return v;
}

// A tensor's description. Its offset counts from where all tensors' data begins, which is known
// only once all descriptions are read.
GgufTensor read_tensor(Cursor& cursor, const std::string& file) {
  GgufTensor t;
  t.name = cursor.string("tensor name", kMaxNameBytes);
  const auto error = [&](const char* what) {
    return Error(what).file(file).tensor(std::string(t.name));
  };
  const auto dim_count = cursor.number<uint32_t>("number of dimensions");
  if (dim_count == 0 || dim_count > kMaxDims) {
    throw error("bad number of dimensions").expected("1 to 4").found(std::to_string(dim_count));
  }
  for (uint32_t d = 0; d < dim_count; ++d) t.dims.push_back(cursor.number<uint64_t>("dimension"));
  const auto type = cursor.number<uint32_t>("tensor type");
  t.type = static_cast<GgufType>(type);
  t.offset = cursor.number<uint64_t>("tensor offset");
  const std::optional<GgufBlock> block = gguf_block(t.type);
  if (!block) {
    throw error("unsupported tensor type")
        .expected("F32, F16, BF16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 or Q2_K to Q6_K")
        .found(fmt::format("type {}", type));
  }
  t.elements =
      for_tensor(file, t.name, [&] { return checked_product(t.dims, "number of elements"); });
  if (t.elements == 0 || t.dims[0] % block->elements != 0) {
    throw error("bad shape")
        .expected(fmt::format("rows of a multiple of {} elements", block->elements))
        .found(fmt::format("{}", t.dims[0]));
  }
  t.bytes = for_tensor(file, t.name, [&] {
    return checked_mul(t.elements / block->elements, block->bytes, "size of a tensor");
  });
  return t;
}

}  // namespace

GgufFile::GgufFile(const std::filesystem::path& path) : GgufFile(path, OnePart()) { join_parts(); }

GgufFile::GgufFile(const std::filesystem::path& path, OnePart)
    : name_(path.string()), file_(path), bytes_(file_.bytes()) {
  refuse_lfs_pointer(file_);
  parse();
}

GgufFile::GgufFile(std::span<const std::byte> bytes, std::string name)
    : name_(std::move(name)), bytes_(bytes) {
  parse();
}

Error GgufFile::error(std::string what, std::string_view field) const {
  return Error(std::move(what)).file(name_).field(std::string(field));
}

void GgufFile::parse() {
  static_assert(std::endian::native == std::endian::little);
  Cursor cursor(bytes_, name_);
  if (bytes_.size() < 4 || load<uint32_t>(bytes_.data()) != kMagic) throw error("is no GGUF file");
  cursor.take(4, "magic");
  version_ = cursor.number<uint32_t>("version");
  if (version_ != 2 && version_ != 3) {
    throw error("unsupported GGUF version", "version")
        .expected("2 or 3, little-endian")
        .found(std::to_string(version_));
  }
  const auto tensor_count = cursor.number<uint64_t>("tensor count");
  const auto key_count = cursor.number<uint64_t>("metadata count");
  if (key_count > kMaxKeys) throw error("too many metadata keys").found(std::to_string(key_count));
  if (tensor_count > kMaxTensors)
    throw error("too many tensors").found(std::to_string(tensor_count));
  for (uint64_t i = 0; i < key_count; ++i) {
    const std::string_view key = cursor.string("metadata key", kMaxNameBytes);
    if (!values_.emplace(key, read_value(cursor, name_, key)).second)
      throw error("a metadata key occurs twice", key);
  }
  for (uint64_t i = 0; i < tensor_count; ++i) {
    GgufTensor t = read_tensor(cursor, name_);
    if (!tensor_index_.emplace(t.name, tensors_.size()).second)
      throw error("a tensor name occurs twice").tensor(std::string(t.name));
    tensors_.push_back(std::move(t));
  }
  place_tensors(cursor.at());
}

void GgufFile::place_tensors(uint64_t end_of_descriptions) {
  const uint64_t alignment = has("general.alignment") ? get_uint("general.alignment") : 32;
  if (!std::has_single_bit(alignment) || alignment > kMaxAlignment) {
    throw error("bad alignment", "general.alignment")
        .expected(fmt::format("a power of two up to {}", kMaxAlignment))
        .found(std::to_string(alignment));
  }
  const uint64_t data = (end_of_descriptions + alignment - 1) / alignment * alignment;
  for (GgufTensor& t : tensors_) {
    const uint64_t start =
        for_tensor(name_, t.name, [&] { return checked_add(data, t.offset, "tensor offset"); });
    const uint64_t end =
        for_tensor(name_, t.name, [&] { return checked_add(start, t.bytes, "tensor end"); });
    if (t.offset % alignment != 0 || end > bytes_.size()) {
      throw error("the tensor's data is not inside the file")
          .tensor(std::string(t.name))
          .field("offset")
          .expected(fmt::format("up to {}, aligned to {}", bytes_.size(), alignment))
          .found(fmt::format("{} to {}", start, end));
    }
    t.offset = start;
  }
}

void GgufFile::join_parts() {
  const uint64_t count = has("split.count") ? get_uint("split.count") : 1;
  if (count < 2) return;
  // NAME-00001-of-00002.gguf
  const auto ending = [count](uint64_t part) {
    return fmt::format("-{:05}-of-{:05}.gguf", part + 1, count);
  };
  const uint64_t own = get_uint("split.no");
  if (own >= count || !name_.ends_with(ending(own)))
    throw error("is a part of a split model, but not by its name", "split.no")
        .expected(fmt::format("a name that ends in {}", ending(own)));
  const std::string stem = name_.substr(0, name_.size() - ending(own).size());
  if (own != 0)
    throw error(fmt::format("is part {} of {} of a split model", own + 1, count))
        .remedy("name its first part, " + stem + ending(0));
  for (uint64_t part = 1; part < count; ++part) {
    const std::string name = stem + ending(part);
    if (std::error_code ec; !std::filesystem::exists(name, ec))
      throw error(fmt::format("is part 1 of {} of a split model, and another is missing", count))
          .expected(name)
          .remedy("put all parts into one folder");
    const GgufFile& other =
        *parts_.emplace_back(std::unique_ptr<GgufFile>(new GgufFile(name, OnePart())));
    if (other.get_uint("split.no") != part || other.get_uint("split.count") != count)
      throw other.error("is another part than its name says", "split.no")
          .expected(fmt::format("part {} of {}", part + 1, count));
    for (GgufTensor t : other.tensors_) {
      t.part = part;
      if (!tensor_index_.emplace(t.name, tensors_.size()).second)
        throw other.error("a tensor occurs in two parts").tensor(std::string(t.name));
      tensors_.push_back(std::move(t));
    }
  }
}

const GgufValue& GgufFile::value(std::string_view key) const {
  const auto it = values_.find(key);
  if (it == values_.end()) throw error("metadata is missing", key);
  return it->second;
}

uint64_t GgufFile::get_uint(std::string_view key) const {
  const GgufValue& v = value(key);
  const auto number = v.type == kBool ? std::nullopt : as_int(v.type, v.payload.data());
  if (!number || *number < 0) throw error("bad metadata", key).expected("an unsigned integer");
  return static_cast<uint64_t>(*number);
}

double GgufFile::get_number(std::string_view key) const {
  const GgufValue& v = value(key);
  if (v.type == kFloat64) return load<double>(v.payload.data());
  if (v.type == kFloat32) {
    // The shortest decimal that reads back as the same float: what the model's author wrote
    // (1e-05, not 9.999999747378752e-06).
    return std::stod(fmt::format("{}", load<float>(v.payload.data())));
  }
  const auto number = v.type == kBool ? std::nullopt : as_int(v.type, v.payload.data());
  if (!number) throw error("bad metadata", key).expected("a number");
  return static_cast<double>(*number);
}

bool GgufFile::get_bool(std::string_view key) const {
  const GgufValue& v = value(key);
  if (v.type != kBool) throw error("bad metadata", key).expected("true or false");
  return load<uint8_t>(v.payload.data()) != 0;
}

std::string_view GgufFile::get_string(std::string_view key) const {
  const GgufValue& v = value(key);
  if (v.type != kString) throw error("bad metadata", key).expected("a string");
  return {reinterpret_cast<const char*>(v.payload.data()), v.payload.size()};
}

std::vector<std::string_view> GgufFile::get_strings(std::string_view key) const {
  const GgufValue& v = value(key);
  if (v.type != kArray || v.element_type != kString)
    throw error("bad metadata", key).expected("an array of strings");
  std::vector<std::string_view> out;
  out.reserve(v.count);  // parse() has seen that many strings
  size_t at = 0;
  while (out.size() < v.count) out.push_back(string_at(v.payload, at));
  return out;
}

std::vector<int64_t> GgufFile::get_ints(std::string_view key) const {
  const GgufValue& v = value(key);
  const size_t size = v.type == kArray ? fixed_size(v.element_type) : 0;
  std::vector<int64_t> out;
  if (size > 0) out.reserve(v.count);
  for (uint64_t i = 0; size > 0 && i < v.count; ++i) {
    const auto number = as_int(v.element_type, v.payload.data() + i * size);
    if (!number) break;
    out.push_back(*number);
  }
  if (size == 0 || out.size() != v.count)
    throw error("bad metadata", key).expected("an array of integers");
  return out;
}

std::vector<std::string_view> GgufFile::keys() const {
  std::vector<std::string_view> out;
  for (const auto& [key, v] : values_) out.push_back(key);
  return out;
}

const GgufTensor* GgufFile::find_tensor(std::string_view name) const {
  const auto it = tensor_index_.find(name);
  return it == tensor_index_.end() ? nullptr : &tensors_[it->second];
}

std::span<const std::byte> GgufFile::bytes(const GgufTensor& tensor) const {
  const GgufFile& file = tensor.part == 0 ? *this : *parts_[tensor.part - 1];
  return file.bytes_.subspan(tensor.offset, tensor.bytes);
}

void GgufFile::release(const GgufTensor& tensor) const noexcept {
  const GgufFile& file = tensor.part == 0 ? *this : *parts_[tensor.part - 1];
  file.file_.release(tensor.offset, tensor.bytes);
}

}  // namespace octet
