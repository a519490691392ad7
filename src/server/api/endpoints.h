// The small endpoints: tokens and models.
#pragma once

#include <functional>
#include <string>

#include "src/base/json.h"
#include "src/server/api/context.h"

namespace octet::server {

// `go_on` is called between pieces of the work; what it throws ends it.
ordered_json tokenize(const Context& context, const ordered_json& body,
                      const std::function<void()>& go_on);
ordered_json detokenize(const Context& context, const ordered_json& body,
                        const std::function<void()>& go_on);
ordered_json model_list(const Context& context);
// ApiError 404 for an unknown name.
ordered_json model_card(const Context& context, const std::string& name);

}  // namespace octet::server
