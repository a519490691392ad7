#include "src/quant/output/summary.h"

namespace octet {
namespace {

// q_proj, down_proj, norm, embed_tokens, lm_head: the module's own name.
std::string role_of(const std::string& tensor) {
  const size_t end = tensor.rfind('.');
  const size_t begin = tensor.rfind('.', end - 1);
  const std::string module = tensor.substr(begin + 1, end - begin - 1);
  if (module == "module") return "norm copies";  // msModelSlim's wrapped norms
  return module.ends_with("norm") ? "norms" : module;
}

}  // namespace

void summarize(const ModelFolder& before, const ModelFolder& after, QuantizeSummary& s) {
  // Types of one role stand together, those in int8 before FLOAT.
  const auto row = [&](const std::string& role, const std::string& type) -> SummaryRow& {
    auto at = s.rows.end();
    for (auto r = s.rows.begin(); r != s.rows.end(); ++r) {
      if (r->role != role) continue;
      if (r->type == type) return *r;
      at = type == kFloatWord || r->type != kFloatWord ? r + 1 : r;
    }
    return *s.rows.insert(at, SummaryRow{role, type});
  };
  const auto type_of = [&](const std::string& tensor) {
    const std::string* type =
        after.description()->find(tensor.substr(0, tensor.rfind('.')) + ".weight");
    return type == nullptr ? std::string(kFloatWord) : *type;
  };
  for (const TensorView* t : after.tensors().all()) {
    SummaryRow& r = row(role_of(t->name), type_of(t->name));
    if (t->name.ends_with(".weight")) ++r.count;
    r.bytes_after += t->data.size();
  }
  for (const TensorView* t : before.tensors().all())
    row(role_of(t->name), type_of(t->name)).bytes_before += t->data.size();
  bool fixed = false;
  for (const auto& [name, type] : after.description()->types) {
    const std::optional<Scheme> scheme = parse_scheme(type);
    fixed = fixed || (scheme && is_static(*scheme));
    if (scheme && scales_per_token(*scheme) && !has_static_input(*scheme) &&
        name.ends_with(".weight"))
      s.per_token.push_back(name.substr(0, name.rfind('.')));
  }
  if (!fixed) s.per_token.clear();
  s.bytes_before = before.tensors().total_bytes();
  s.bytes_after = after.tensors().total_bytes();
}

}  // namespace octet
