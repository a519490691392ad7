// The small endpoints: tokens and models.
#pragma once

#include <string>

#include "src/base/json.h"
#include "src/server/api/context.h"

namespace octet::server {

ordered_json tokenize(const Context& context, const ordered_json& body);
ordered_json detokenize(const Context& context, const ordered_json& body);
ordered_json model_list(const Context& context);
// ApiError 404 for an unknown name.
ordered_json model_card(const Context& context, const std::string& name);

}  // namespace octet::server
