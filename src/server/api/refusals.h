// What clients of the API read when the engine refuses a request.
#pragma once

#include "src/base/error.h"
#include "src/engine/refusal.h"

namespace octet::server {

// kUsage Error; its field is the request's member at fault.
Error error_of(const Refusal& why);

}  // namespace octet::server
