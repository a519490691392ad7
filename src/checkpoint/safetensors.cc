#include "src/checkpoint/safetensors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "src/base/error.h"
#include "src/base/float16.h"
#include "src/base/json.h"

namespace octet {
namespace {

constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the reference implementation

template <typename T>
void convert(std::span<const std::byte> data, float* out) {
  for (size_t i = 0; i * sizeof(T) < data.size(); ++i) {
    T v;
    std::memcpy(&v, data.data() + i * sizeof(T), sizeof(T));
    out[i] = to_float(v);
  }
}

uint64_t unsigned_field(const json& v, const std::string& file, const std::string& tensor,
                        const char* field) {
  if (!v.is_number_unsigned())
    throw Error("bad header")
        .file(file)
        .tensor(tensor)
        .field(field)
        .expected("a non-negative integer");
  return v.get<uint64_t>();
}

// One entry of the header; `data` is the data part of the file.
TensorView parse_entry(const std::string& name, const json& entry, std::span<const std::byte> data,
                       const std::string& file) {
  if (!entry.is_object()) throw Error("bad header: the entry is no object").file(file).tensor(name);
  for (const char* key : {"dtype", "shape", "data_offsets"})
    if (!entry.contains(key))
      throw Error("bad header: field missing").file(file).tensor(name).field(key);
  TensorView t;
  t.name = name;
  const json& dtype = entry["dtype"];
  const auto type =
      dtype.is_string() ? parse_dtype(dtype.get_ref<const std::string&>()) : std::nullopt;
  if (!type)
    throw Error("unknown dtype")
        .file(file)
        .tensor(name)
        .field("dtype")
        .found(dtype.dump().substr(0, 40));
  t.dtype = *type;
  if (!entry["shape"].is_array() || entry["shape"].size() > 8)
    throw Error("bad header")
        .file(file)
        .tensor(name)
        .field("shape")
        .expected("a list of at most 8 sizes");
  for (const json& d : entry["shape"]) t.shape.push_back(unsigned_field(d, file, name, "shape"));
  const json& offsets = entry["data_offsets"];
  if (!offsets.is_array() || offsets.size() != 2)
    throw Error("bad header")
        .file(file)
        .tensor(name)
        .field("data_offsets")
        .expected("[begin, end]");
  const uint64_t begin = unsigned_field(offsets[0], file, name, "data_offsets");
  const uint64_t end = unsigned_field(offsets[1], file, name, "data_offsets");
  if (begin > end || end > data.size())
    throw Error("data lies outside the file; the file is cut or damaged")
        .file(file)
        .tensor(name)
        .expected(fmt::format("begin <= end <= {}", data.size()))
        .found(fmt::format("[{}, {}]", begin, end))
        .remedy("copy or download the file again");
  uint64_t bytes = dtype_size(t.dtype);
  for (uint64_t d : t.shape)
    if (__builtin_mul_overflow(bytes, d, &bytes))
      throw Error("the shape overflows 64 bits")
          .file(file)
          .tensor(name)
          .field("shape")
          .found(shape_string(t.shape));
  if (bytes != end - begin)
    throw Error("shape and data disagree")
        .file(file)
        .tensor(name)
        .expected(
            fmt::format("{} bytes for {} {}", bytes, dtype_name(t.dtype), shape_string(t.shape)))
        .found(fmt::format("{} bytes", end - begin));
  t.data = data.subspan(begin, end - begin);
  return t;
}

}  // namespace

std::string shape_string(const Shape& shape) { return fmt::format("[{}]", fmt::join(shape, ", ")); }

void TensorView::expect_shape(const Shape& expected) const {
  if (shape != expected)
    throw Error("wrong shape")
        .file(file->path().string())
        .tensor(name)
        .expected(shape_string(expected))
        .found(shape_string(shape));
}

void TensorView::expect(DType expected_dtype, const Shape& expected_shape) const {
  if (dtype != expected_dtype)
    throw Error("wrong dtype")
        .file(file->path().string())
        .tensor(name)
        .expected(std::string(dtype_name(expected_dtype)))
        .found(std::string(dtype_name(dtype)));
  expect_shape(expected_shape);
}

TensorView TensorView::part(uint64_t first, uint64_t count) const {
  TensorView p = *this;
  p.shape.clear();
  p.data = data.subspan(first * dtype_size(dtype), count * dtype_size(dtype));
  return p;
}

void TensorView::to_floats(float* out) const {
  switch (dtype) {
    case DType::kF32:
      std::memcpy(out, data.data(), data.size());
      return;
    case DType::kF16:
      convert<f16>(data, out);
      return;
    case DType::kBF16:
      convert<bf16>(data, out);
      return;
    default:
      throw Error("is no float tensor")
          .file(file->path().string())
          .tensor(name)
          .expected("F32, F16 or BF16")
          .found(std::string(dtype_name(dtype)));
  }
}

std::vector<float> TensorView::floats() const {
  std::vector<float> out(elements());
  to_floats(out.data());
  return out;
}

void TensorView::expect_finite() const {
  // A value is finite unless all bits of its exponent are set.
  const auto scan = [&]<typename T>(T exponent) {
    for (size_t i = 0; i * sizeof(T) < data.size(); ++i) {
      T v;
      std::memcpy(&v, data.data() + i * sizeof(T), sizeof(T));
      if ((v & exponent) == exponent)
        throw Error("a value is NaN or infinite")
            .file(file->path().string())
            .tensor(name)
            .field(fmt::format("element {}", i))
            .remedy("the checkpoint is damaged; get it again");
    }
  };
  if (dtype == DType::kF32) scan(uint32_t{0x7f800000});
  if (dtype == DType::kF16) scan(uint16_t{0x7c00});
  if (dtype == DType::kBF16) scan(uint16_t{0x7f80});
}

void TensorView::release() const {
  file->release(static_cast<size_t>(data.data() - file->bytes().data()), data.size());
}

void TensorView::will_need() const {
  file->will_need(static_cast<size_t>(data.data() - file->bytes().data()), data.size());
}

SafetensorsFile::SafetensorsFile(const fs::path& path) : file_(std::make_unique<MappedFile>(path)) {
  refuse_lfs_pointer(*file_);
  const std::string where = path.string();
  const auto bytes = file_->bytes();
  if (bytes.size() < 8)
    throw Error(fmt::format("is no safetensors file: {} bytes, shorter than its header length",
                            bytes.size()))
        .file(where);
  uint64_t header_size;
  std::memcpy(&header_size, bytes.data(), 8);
  if (header_size > kMaxHeaderBytes || header_size > bytes.size() - 8)
    throw Error("is no safetensors file, or is cut: the header does not fit")
        .file(where)
        .expected(
            fmt::format("at most {} bytes", std::min<uint64_t>(kMaxHeaderBytes, bytes.size() - 8)))
        .found(fmt::format("header length {}", header_size));
  const std::string_view text(reinterpret_cast<const char*>(bytes.data()) + 8, header_size);
  if (text.empty() || text[0] != '{')
    throw Error("is no safetensors file: no JSON header").file(where);
  const json header = parse_json(text, where, {.depth = 8, .unique_keys = true});
  const auto data = bytes.subspan(8 + header_size);
  for (const auto& [name, entry] : header.items()) {
    if (name == "__metadata__") {
      if (entry.is_null()) continue;
      if (!entry.is_object()) throw Error("bad header").file(where).field(name);
      for (const auto& [key, value] : entry.items())
        if (value.is_string()) metadata_[key] = value.get<std::string>();
      continue;
    }
    tensors_.push_back(parse_entry(name, entry, data, where));
    tensors_.back().file = file_.get();
  }
  std::stable_sort(tensors_.begin(), tensors_.end(), [](const TensorView& a, const TensorView& b) {
    return a.data.data() != b.data.data() ? a.data.data() < b.data.data()
                                          : a.data.size() < b.data.size();
  });
  const std::byte* at = data.data();
  for (const TensorView& t : tensors_) {
    if (t.data.data() != at)
      throw Error(t.data.data() < at ? "data overlaps the tensor before" : "hole in the data")
          .file(where)
          .tensor(t.name);
    at += t.data.size();
  }
  if (at != data.data() + data.size())
    throw Error(fmt::format("{} bytes after the last tensor", data.data() + data.size() - at))
        .file(where);
}

TensorStore::TensorStore(const fs::path& folder) : folder_(folder) {
  std::error_code ec;
  std::vector<fs::path> indexes, weights;
  for (const auto& entry : fs::directory_iterator(folder, ec)) {
    const std::string name = entry.path().filename().string();
    if (name.ends_with(".safetensors.index.json")) indexes.push_back(entry.path());
    if (name.ends_with(".safetensors")) weights.push_back(entry.path());
  }
  if (ec) throw Error("cannot read the model folder: " + ec.message()).file(folder.string());
  if (indexes.size() > 1)
    throw Error("more than one safetensors index")
        .file(folder.string())
        .found(indexes[0].filename().string() + " and " + indexes[1].filename().string())
        .remedy("remove the one that belongs to another model");
  std::map<std::string, std::string> file_of;  // tensor -> file, by the index
  if (!indexes.empty()) {
    const std::string where = indexes[0].string();
    const json index = parse_json(read_text(indexes[0]), where);
    if (!index.is_object() || !index.contains("weight_map") || !index["weight_map"].is_object())
      throw Error("bad index").file(where).field("weight_map").expected("an object");
    std::set<fs::path> named;
    for (const auto& [tensor, file] : index["weight_map"].items()) {
      const std::string name = file.is_string() ? file.get<std::string>() : "";
      if (name.empty() || name.find('/') != std::string::npos || name == ".." ||
          !name.ends_with(".safetensors"))
        throw Error("bad index")
            .file(where)
            .tensor(tensor)
            .expected("a plain *.safetensors file name")
            .found(file.dump().substr(0, 80));
      file_of[tensor] = name;
      named.insert(folder / name);
    }
    weights.assign(named.begin(), named.end());
  }
  if (weights.empty())
    throw Error("no *.safetensors file in the model folder")
        .file(folder.string())
        .remedy("name a folder with config.json and safetensors weights");
  std::sort(weights.begin(), weights.end());
  for (const fs::path& path : weights) {
    files_.push_back(std::make_unique<SafetensorsFile>(path));
    for (const TensorView& t : files_.back()->tensors()) {
      const auto [it, first] = by_name_.emplace(t.name, &t);
      if (first) {
        order_.push_back(&t);
        continue;
      }
      if (const auto named = file_of.find(t.name);
          named == file_of.end() || named->second != path.filename())
        throw Error("the tensor occurs in two files")
            .file(path.string())
            .tensor(t.name)
            .found("also in " + it->second->file->path().filename().string())
            .remedy("remove the weight file that does not belong to this checkpoint");
      std::replace(order_.begin(), order_.end(), it->second, &t);
      it->second = &t;
    }
  }
  for (const auto& [tensor, file] : file_of) {
    const TensorView* stored = find(tensor);
    if (stored == nullptr)
      unstored_.push_back(tensor);
    else if (stored->file->path().filename() != file)
      throw Error("the index names a tensor that its file lacks")
          .file((folder / file).string())
          .tensor(tensor)
          .remedy("the index belongs to other files");
  }
}

const TensorView* TensorStore::find(const std::string& name) const {
  const auto it = by_name_.find(name);
  return it == by_name_.end() ? nullptr : it->second;
}

const TensorView& TensorStore::get(const std::string& name) const {
  const TensorView* t = find(name);
  if (t == nullptr)
    throw Error("the checkpoint lacks a tensor").file(folder_.string()).tensor(name);
  return *t;
}

void TensorStore::rename(const std::string& name, const std::string& other) {
  const TensorView* old = &get(name);
  const auto& renamed = renamed_.emplace_back(std::make_unique<TensorView>(*old));
  renamed->name = other;
  by_name_.erase(name);
  by_name_.emplace(other, renamed.get());
  std::replace(order_.begin(), order_.end(), old, static_cast<const TensorView*>(renamed.get()));
}

uint64_t TensorStore::total_bytes() const {
  uint64_t n = 0;
  for (const TensorView* t : order_) n += t->data.size();
  return n;
}

}  // namespace octet
