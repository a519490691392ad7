#include "src/quant/settings/tool_method.h"

#include <fmt/format.h>

#include <algorithm>

namespace octet {
namespace {

bool any_type(const ToolMethod& m, bool (*is)(Scheme)) {
  if (m.types.empty()) return is(m.scheme);
  return std::ranges::any_of(m.types, [is](const auto& type) { return is(type.second); });
}

}  // namespace

bool SmoothScope::takes(const std::string& source, LayerPart part) const {
  const bool wanted = part == LayerPart::kO      ? from_v
                      : part == LayerPart::kDown ? from_up
                                                 : after_norm;
  return wanted && sources.takes(source);
}

std::string disable_level_name(size_t level) { return fmt::format("L{}", level); }

bool has_static_ranges(const ToolMethod& m) { return any_type(m, has_static_input); }
bool may_scale_per_token(const ToolMethod& m) { return any_type(m, scales_per_token); }

bool needs_scores(const ToolMethod& m) {
  return m.disable_level > 0 || (m.act_method == ActMethod::kAuto && has_static_input(m.scheme));
}

bool learns_from_outliers(const ToolMethod& m) {
  return m.anti_method != AntiMethod::kNone || m.disable_threshold > 0;
}

}  // namespace octet
