// For tests: folders that go away, safetensors files from parts (right and wrong ones).
#pragma once

#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <map>
#include <stdexcept>
#include <string>
#include <vector>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/checkpoint/model_folder.h"
#include "src/checkpoint/safetensors_writer.h"

namespace octet::tests {

inline const fs::path kSources = OCTET_SOURCE_DIR, kGolden = kSources / "tests/golden";

class TempFolder {
 public:
  explicit TempFolder(const std::string& name)
      : path_(fs::path(::testing::TempDir()) /
              ("octet_" + name + "_" + std::to_string(::getpid()))) {
    fs::remove_all(path_);
    fs::create_directories(path_);
  }
  ~TempFolder() { fs::remove_all(path_); }
  TempFolder(const TempFolder&) = delete;
  TempFolder& operator=(const TempFolder&) = delete;
  const fs::path& path() const { return path_; }
  fs::path operator/(const std::string& name) const { return path_ / name; }

 private:
  fs::path path_;
};

// Fills `to` with the quantized folder `golden`/out_`name` and the config.json of its float model.
inline void copy_quantized(const fs::path& golden, const std::string& name, const TempFolder& to) {
  fs::copy_file(golden / "model/config.json", to / "config.json");
  for (const auto& entry : fs::directory_iterator(golden / ("out_" + name)))
    fs::copy_file(entry.path(), to / entry.path().filename().string());
}

// Fills `to` with the float model of `from` in float32, whose tensors `edit` may change.
inline void copy_in_float32(
    const fs::path& from, const fs::path& to,
    const std::function<void(const std::string& name, std::vector<float>& values)>& edit = {}) {
  const ModelFolder folder(from);
  json config = folder.config().raw;
  config["torch_dtype"] = "float32";
  fs::create_directories(to);
  write_text(to / "config.json", config.dump());
  std::vector<TensorSpec> specs;
  for (const TensorView* t : folder.tensors().all())
    specs.push_back({t->name, DType::kF32, t->shape});
  SafetensorsWriter writer(to, specs, {.stem = "model"});
  for (const TensorView* t : folder.tensors().all()) {
    std::vector<float> values = t->floats();
    if (edit) edit(t->name, values);
    writer.write(t->name, values);
  }
  writer.finish();
}

// A tensor by itself, to be changed and written again.
struct LooseTensor {
  TensorSpec spec;
  std::vector<std::byte> data;

  template <typename T>
  void set(DType dtype, const Shape& shape, const std::vector<T>& values) {
    const auto bytes = std::as_bytes(std::span(values));
    spec = {spec.name, dtype, shape};
    data.assign(bytes.begin(), bytes.end());
  }
};
inline std::vector<LooseTensor> loose_tensors(const fs::path& folder) {
  std::vector<LooseTensor> loose;
  const TensorStore store(folder);
  for (const TensorView* t : store.all())
    loose.push_back({{t->name, t->dtype, t->shape}, {t->data.begin(), t->data.end()}});
  return loose;
}
inline void write_tensors(const fs::path& folder, const std::vector<LooseTensor>& tensors,
                          const WriterOptions& options = {}) {
  std::vector<TensorSpec> specs;
  for (const LooseTensor& t : tensors) specs.push_back(t.spec);
  SafetensorsWriter writer(folder, specs, options);
  for (const LooseTensor& t : tensors) writer.write(t.spec.name, std::span(t.data));
  writer.finish();
}

// A float model (tests/golden/FAMILY/model) with other tensors and another config.json.
class EditedModel {
 public:
  explicit EditedModel(const std::string& family)
      : config(parse_ordered_json(read_text(folder_of(family) / "config.json"), "config.json")),
        tensors(loose_tensors(folder_of(family))) {}

  LooseTensor& at(const std::string& name) {
    for (LooseTensor& t : tensors)
      if (t.spec.name == name) return t;
    throw std::out_of_range(name);
  }
  void remove(const std::string& end_of_name) {
    std::erase_if(tensors,
                  [&](const LooseTensor& t) { return t.spec.name.ends_with(end_of_name); });
  }
  // A copy of the tensor `name`.
  void add(const std::string& name, const std::string& copy) {
    LooseTensor t = at(name);
    t.spec.name = copy;
    tensors.push_back(std::move(t));
  }
  void write(const fs::path& folder, const WriterOptions& options = {}) const {
    write_text(folder / "config.json", config.dump(2));
    write_tensors(folder, tensors, options);
  }

  ordered_json config;
  std::vector<LooseTensor> tensors;

 private:
  static fs::path folder_of(const std::string& family) {
    return fs::path(OCTET_SOURCE_DIR) / "tests/golden" / family / "model";
  }
};

// A file of a header text and data bytes, with the length in front (or a false one).
inline void write_raw_safetensors(const fs::path& path, const std::string& header,
                                  const std::string& data, int64_t length = -1) {
  const uint64_t size = length < 0 ? header.size() : static_cast<uint64_t>(length);
  std::string all(8, '\0');
  std::memcpy(all.data(), &size, 8);
  write_text(path, all + header + data);
}

// The message of the Error that `action` throws; fails when it throws none.
inline std::string message_of(const std::function<void()>& action) {
  try {
    action();
  } catch (const Error& e) {
    return e.what();
  }
  ADD_FAILURE() << "no error";
  return "";
}

}  // namespace octet::tests
