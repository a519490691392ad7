#include "src/base/error.h"
#include "src/server/api/protocol.h"
#include "src/server/http/errors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  octet::server::ServerOptions options;
  options.served_model_names = {"m"};
  const auto attempt = [&](auto parse) {
    try {
      parse(octet::server::parse_body(text), options);
    } catch (const octet::server::ApiError&) {
    } catch (const octet::Error&) {
    }
  };
  attempt(octet::server::parse_completion);
  attempt(octet::server::parse_chat);
  return 0;
}
