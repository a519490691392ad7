// `octet inspect`: what a checkpoint holds.
#include <fmt/format.h>

#include <map>
#include <memory>

#include "src/base/json.h"
#include "src/base/progress.h"
#include "src/checkpoint/model_folder.h"
#include "src/cli/cli.h"
#include "src/cli/flags.h"

namespace octet::cli {
namespace {

std::string type_of(const ModelFolder& folder, const std::string& tensor) {
  if (!folder.quantized()) return kFloatWord;
  const std::string* type = folder.description()->find(tensor);
  return type == nullptr ? "?" : *type;
}

void print_json(const ModelFolder& folder) {
  const ModelConfig& c = folder.config();
  ordered_json tensors = ordered_json::array();
  for (const TensorView* t : folder.tensors().all())
    tensors.push_back({{"name", t->name},
                       {"type", type_of(folder, t->name)},
                       {"dtype", dtype_name(t->dtype)},
                       {"shape", t->shape},
                       {"bytes", t->data.size()},
                       {"file", t->file->path().filename().string()}});
  const ordered_json all = {{"path", folder.path().string()},
                            {"model_type", c.model_type()},
                            {"torch_dtype", config_dtype_name(c.dtype)},
                            {"layers", c.layers},
                            {"hidden_size", c.hidden_size},
                            {"intermediate_size", c.intermediate_size},
                            {"heads", c.heads},
                            {"kv_heads", c.kv_heads},
                            {"head_dim", c.head_dim},
                            {"vocab_size", c.vocab_size},
                            {"max_position", c.max_position},
                            {"tied_embeddings", c.tie_word_embeddings},
                            {"quantized", folder.quantized()},
                            {"type", folder.type_words()},
                            {"int8_kv_cache", folder.int8_kv()},
                            {"description", folder.quantized() ? folder.description()->source : ""},
                            {"bytes", folder.tensors().total_bytes()},
                            {"tensors", tensors}};
  fmt::print("{}\n", all.dump(2));
}

void print_header(const ModelFolder& folder) {
  const ModelConfig& c = folder.config();
  fmt::print(
      "{}\n{}, {} layers, hidden {}, intermediate {}, {} heads of {} ({} KV), vocabulary {}, "
      "context {}\n",
      folder.path().string(), c.model_type(), c.layers, c.hidden_size, c.intermediate_size, c.heads,
      c.head_dim, c.kv_heads, c.vocab_size, c.max_position);
  fmt::print("{} in {} file(s){}\n\n", format_bytes(folder.tensors().total_bytes()),
             folder.tensors().files().size(),
             folder.quantized()
                 ? fmt::format(", {}: {}", folder.type_words(), folder.description()->source)
                 : ", float");
}

void print_tensors(const ModelFolder& folder) {
  std::vector<std::vector<std::string>> rows = {{"tensor", "type", "dtype", "shape", "size"}};
  for (const TensorView* t : folder.tensors().all())
    rows.push_back({t->name, type_of(folder, t->name), std::string(dtype_name(t->dtype)),
                    shape_string(t->shape), format_bytes(t->data.size())});
  fmt::print("{}", format_table(rows, {false, false, false, false, true}));
}

// One row for each linear of the layers, with how many layers hold it in which type.
void print_summary(const ModelFolder& folder) {
  std::map<std::pair<std::string, std::string>, std::pair<size_t, uint64_t>> groups;
  std::vector<std::pair<std::string, std::string>> order;
  for (const TensorView* t : folder.tensors().all()) {
    std::string name = t->name;
    if (const auto layer = layer_of(name))  // from the dot behind the number on
      name = "layers.*" + name.substr(name.find('.', layer_prefix(*layer).size() - 2));
    const auto key =
        std::make_pair(name, fmt::format("{}\t{}", type_of(folder, t->name), dtype_name(t->dtype)));
    auto [it, fresh] = groups.try_emplace(key);
    if (fresh) order.push_back(key);
    it->second.first += 1;
    it->second.second += t->data.size();
  }
  std::vector<std::vector<std::string>> rows = {{"tensors", "type", "dtype", "count", "size"}};
  for (const auto& key : order) {
    const size_t tab = key.second.find('\t');
    rows.push_back({key.first, key.second.substr(0, tab), key.second.substr(tab + 1),
                    std::to_string(groups[key].first), format_bytes(groups[key].second)});
  }
  fmt::print("{}", format_table(rows, {false, false, false, true, true}));
}

}  // namespace

void add_inspect(Verb program) {
  const Verb verb = program.verb("inspect", "what a checkpoint holds");
  struct InspectFlags {
    std::string folder;
    bool as_json = false, all = false;
  };
  auto f = std::make_shared<InspectFlags>();
  verb.text("folder", f->folder, "the model folder").required();
  verb.toggle("--json", f->as_json, "machine-readable, every tensor");
  verb.toggle("--all", f->all, "every tensor, not layers summed up");
  verb.run([f] {
    const ModelFolder folder(f->folder);
    if (f->as_json) return print_json(folder);
    print_header(folder);
    f->all ? print_tensors(folder) : print_summary(folder);
  });
}

}  // namespace octet::cli
