#include "src/checkpoint/check_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "src/base/error.h"
#include "src/base/json.h"
#include "src/base/json_member.h"
#include "src/checkpoint/layout.h"

namespace octet {
namespace {

class FileChecker {
 public:
  FileChecker(const ModelFolder& folder, Findings& findings)
      : folder_(folder),
        path_(folder.path()),
        config_file_(folder.path() / "config.json"),
        raw_(folder.config().raw),
        findings_(findings) {}

  void run() {
    if (!folder_.quantized()) refuse_int8();
    if (folder_.ascend()) check_descriptions();
    if (folder_.ascend()) check_beside_weights();
    if (folder_.ascend()) check_config();
    check_stray_files();
  }

 private:
  // The dictionary in config.json, or null.
  const ordered_json* dictionary() const {
    const ordered_json* member = find_member(raw_, "quantization_config");
    return member != nullptr && member->is_object() ? member : nullptr;
  }

  void refuse_int8() {
    const auto& all = folder_.tensors().all();
    if (std::none_of(all.begin(), all.end(),
                     [](const TensorView* t) { return t->dtype == DType::kI8; }))
      return;
    Finding& f = findings_.error("", "int8 tensors, but no quantization description");
    f.expected = kDescriptionFile;
    f.remedy = "copy it from where the weights came from";
  }

  void check_descriptions() {
    if (const std::vector<fs::path> files = description_files(path_); files.size() > 1) {
      Finding& f = findings_.error("", "more than one quantization description");
      f.found = files[0].filename().string() + " and " + files[1].filename().string();
      f.remedy = "MindIE refuses it; keep the one that belongs to the weights";
    }
    const fs::path file = path_ / kDescriptionFile;
    if (!fs::exists(file)) {
      Finding& f = findings_.warning("", fmt::format("no {}", kDescriptionFile));
      f.found = folder_.description()->source;
      f.remedy = "MindIE's runtime and current vLLM-Ascend look for that file";
    }
    if (folder_.int8_kv())
      for (const char* key : kKvCacheKeys)
        if (find_member(folder_.description()->raw, key) == nullptr) {
          Finding& f = findings_.warning("", fmt::format("the description lacks {}", key));
          f.file = folder_.description()->source;
          f.expected = kKvCacheWord;
          f.remedy = "vLLM-Ascend reads kv_cache_type, MindIE kv_quant_type: write both";
        }
    if (const ordered_json* d = dictionary()) {
      size_t entries = 0;
      for (const auto& [key, unused] : d->items()) entries += key.find('.') != std::string::npos;
      if (entries == 0) {
        Finding& f = findings_.warning("", "a partial quantization_config");
        f.file = config_file_.string();
        f.expected = "an entry for every tensor, or no quantization_config";
        f.remedy = "vLLM-Ascend ends with KeyError; remove it";
      } else if (fs::exists(file)) {
        check_same_description(*d, file);
      }
    }
  }

  void check_same_description(const ordered_json& dictionary, const fs::path& file) {
    const ordered_json other = parse_ordered_json(read_text(file), file.string());
    for (const auto& [key, type] : dictionary.items())
      if (key.find('.') != std::string::npos && (!other.contains(key) || other[key] != type)) {
        Finding& f =
            findings_.error(key, fmt::format("config.json and {} disagree", kDescriptionFile));
        f.expected = type.dump();
        f.found = other.contains(key) ? other[key].dump() : "no entry";
        f.remedy = "vLLM-Ascend reads the former, MindIE the latter; make them equal";
        return;  // one is enough: they are two different descriptions
      }
  }

  // Weight files that loaders would read beside ours.
  void check_stray_files() {
    std::set<std::string> ours;
    for (const auto& file : folder_.tensors().files())
      ours.insert(file->path().filename().string());
    for (const auto& entry : fs::directory_iterator(path_)) {
      const std::string name = entry.path().filename().string();
      if (!name.ends_with(".safetensors") || ours.contains(name)) continue;
      Finding& f = findings_.error("", "a weight file that the index does not name");
      f.file = entry.path().string();
      f.remedy = "vLLM loads every *.safetensors file; remove it";
    }
  }

  void check_config() {
    if (!raw_.contains("torch_dtype")) {
      Finding& f = findings_.error("", "config.json has no torch_dtype");
      f.file = config_file_.string();
      f.remedy = "MindIE demands it, and it decides how deq_scale is read; add it";
    }
    const ordered_json* d = dictionary();
    const ordered_json* method = d == nullptr ? nullptr : find_member(*d, "quant_method");
    if (method == nullptr || *method == "") return;
    Finding& f = findings_.error("", "quantization_config names another quant_method");
    f.file = config_file_.string();
    f.expected = "no quant_method";
    f.found = method->dump();
    f.remedy = "vLLM-Ascend would not take the checkpoint for its own; remove the key";
  }

  void check_beside_weights() {
    if (fs::exists(path_ / "model.safetensors.index.json"))
      findings_.error("", "an index file of the float model").remedy =
          "vLLM would skip the quantized files; remove model.safetensors.index.json";
    const auto mode = fs::status(config_file_).permissions();
    if ((mode & (fs::perms::group_write | fs::perms::others_all)) != fs::perms::none) {
      Finding& f = findings_.warning("", "config.json can be read or written by others");
      f.file = config_file_.string();
      f.expected = "mode 640 or stricter";
      f.found = fmt::format("{:o}", static_cast<unsigned>(mode));
      f.remedy = "MindIE refuses it: chmod 640";
    }
  }

  const ModelFolder& folder_;
  fs::path path_, config_file_;
  const ordered_json& raw_;
  Findings& findings_;
};

}  // namespace

void check_files(const ModelFolder& folder, Findings& findings) {
  FileChecker(folder, findings).run();
}

}  // namespace octet
