#include "src/quant/relayout/relayout_back.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "src/base/error.h"

namespace octet {
namespace {

constexpr const char* kRecord = "octet_source.json";
constexpr const char* kTensors = "octet_source.tensors";

// FNV-1a over 8 bytes at a time: tells whether weights are those that were written.
std::string checksum(const TensorStore& tensors) {
  uint64_t h = 0xcbf29ce484222325u;
  const auto mix = [&](uint64_t v) { h = (h ^ v) * 0x100000001b3u; };
  for (const TensorView* t : tensors.all()) {
    for (char c : t->name) mix(static_cast<unsigned char>(c));
    for (size_t i = 0; i < t->data.size(); i += 8) {
      uint64_t word = 0;
      std::memcpy(&word, t->data.data() + i, std::min<size_t>(8, t->data.size() - i));
      mix(word);
    }
    t->release();
  }
  return fmt::format("{:016x}", h);
}

// A shard size with which the writer divides the tensors as they are: above every shard of more
// than one tensor (docs: a new file starts when the next tensor would reach the size).
uint64_t part_bytes_of(const TensorStore& tensors) {
  if (tensors.files().size() <= 1) return 0;
  uint64_t size = 0;
  for (const auto& file : tensors.files()) {
    uint64_t bytes = 0;
    for (const TensorView& t : file->tensors()) bytes += t.data.size();
    if (file->tensors().size() > 1) size = std::max(size, bytes);
  }
  return size + 1;
}

std::string stem_of(const TensorStore& tensors) {
  std::string name = tensors.files()[0]->path().filename().string();
  name.resize(name.size() - std::strlen(".safetensors"));
  const size_t shard = std::strlen("-00001-of-00002");
  if (tensors.files().size() > 1 && name.size() > shard) name.resize(name.size() - shard);
  return name;
}

ordered_json record_of(const QuantizedSource& source, const TensorStore& converted) {
  ordered_json tensors = ordered_json::array();
  for (const TensorView* t : source.tensors().all())
    tensors.push_back({t->name, dtype_name(t->dtype), t->shape});
  const fs::path description = source.description_file();
  ordered_json files = {{"config.json", read_text(source.path() / "config.json")}};
  if (!description.empty()) files[description.filename().string()] = read_text(description);
  return {{"layout", layout_name(source.layout())},
          {"checksum", checksum(converted)},
          {"stem", stem_of(source.tensors())},
          {"metadata", !source.tensors().files()[0]->metadata().empty()},
          {"part_bytes", part_bytes_of(source.tensors())},
          {"files", files},
          {"tensors", tensors}};
}

ordered_json read_record(const fs::path& folder) {
  const fs::path file = folder / kRecord;
  return parse_ordered_json(read_text(file), file.string());
}

}  // namespace

void keep_way_back(const QuantizedSource& source, const fs::path& folder) {
  const QuantizedSource converted(folder);
  const LayoutPlan plan = plan_layout(converted, source.layout());
  std::map<std::string, const PlannedTensor*> by_name;
  for (const PlannedTensor& t : plan.tensors) by_name[t.spec.name] = &t;
  std::vector<TensorSpec> kept;
  for (const TensorView* t : source.tensors().all()) {
    const auto it = by_name.find(t->name);
    const bool same = it != by_name.end() && it->second->spec.dtype == t->dtype &&
                      it->second->spec.shape == t->shape &&
                      std::ranges::equal(it->second->make(), t->data);
    if (!same) kept.push_back({t->name, t->dtype, t->shape});
    t->release();
  }
  write_text(folder / kRecord, record_of(source, converted.tensors()).dump());
  if (kept.empty()) return;
  // Under a name that loaders, which take every *.safetensors, pass over.
  SafetensorsWriter writer(folder, kept, {"octet_source", 0, false});
  for (const TensorSpec& t : kept) writer.write(t.name, source.tensors().get(t.name).data);
  writer.finish();
  fs::rename(folder / "octet_source.safetensors", folder / kTensors);
}

std::optional<Layout> way_back(const fs::path& folder) {
  if (!fs::exists(folder / kRecord)) return std::nullopt;
  const ordered_json record = read_record(folder);
  const auto layout = record.is_object() && record.value("layout", ordered_json()).is_string()
                          ? parse_layout(record["layout"].get<std::string>())
                          : std::nullopt;
  if (!layout)
    throw Error("names no layout")
        .file((folder / kRecord).string())
        .field("layout")
        .remedy("remove the file to convert without it");
  return layout;
}

LayoutPlan plan_way_back(const QuantizedSource& converted, uint64_t& part_bytes) {
  const fs::path file = converted.path() / kRecord;
  const ordered_json record = read_record(converted.path());
  const auto damaged = [&](const std::string& what) {
    return Error(what).file(file.string()).remedy("remove the file to convert without it");
  };
  LayoutPlan plan;
  try {
    if (record.at("checksum") != checksum(converted.tensors()))
      throw damaged("the weights are not those that were written beside this file");
    part_bytes = record.at("part_bytes").get<uint64_t>();
    plan.stem = record.at("stem").get<std::string>();
    plan.metadata = record.at("metadata").get<bool>();
    std::set<std::string> names;
    const auto plain = [&](const std::string& name) {
      if (name.empty() || fs::path(name).filename() != name)
        throw damaged("is not what octet convert writes");
    };
    plain(plan.stem);
    for (const auto& [name, text] : record.at("files").items()) {
      plain(name);
      if (name == "config.json") {
        plan.config = text.get<std::string>();
      } else {
        plan.description_name = name;
        plan.description = text.get<std::string>();
      }
    }
    if (plan.config.empty()) throw damaged("is not what octet convert writes");
    LayoutPlan made = plan_layout(converted, *way_back(converted.path()));
    std::map<std::string, PlannedTensor*> by_name;
    for (PlannedTensor& t : made.tensors) by_name[t.spec.name] = &t;
    const fs::path tensors = converted.path() / kTensors;
    const auto kept = fs::exists(tensors) ? std::make_shared<SafetensorsFile>(tensors) : nullptr;
    for (const ordered_json& entry : record.at("tensors")) {
      const TensorSpec spec{entry.at(0).get<std::string>(),
                            parse_dtype(entry.at(1).get<std::string>()).value(),
                            entry.at(2).get<Shape>()};
      if (!names.insert(spec.name).second) throw damaged("names a tensor twice: " + spec.name);
      const TensorView* stored = nullptr;
      if (kept)
        for (const TensorView& t : kept->tensors())
          if (t.name == spec.name) stored = &t;
      if (stored != nullptr) {
        plan.tensors.push_back({spec, "", [kept, stored] { return bytes_of(stored->data); }});
      } else {
        const auto it = by_name.find(spec.name);
        if (it == by_name.end()) throw damaged("a tensor cannot be made again: " + spec.name);
        plan.tensors.push_back({spec, "", std::move(it->second->make)});
      }
    }
  } catch (const nlohmann::json::exception&) {
    throw damaged("is not what octet convert writes");
  } catch (const std::bad_optional_access&) {
    throw damaged("is not what octet convert writes");
  }
  return plan;
}

}  // namespace octet
