#include "src/server/http/errors.h"

#include <fmt/format.h>

#include <boost/beast/http/status.hpp>
#include <utility>

#include "src/base/error.h"
#include "src/base/utf8.h"

namespace octet::server {
namespace {

// Answers never echo more of the input than this: a small body must not make a large answer.
constexpr size_t kMaxEcho = 200;

std::string shorten(std::string text) {
  if (text.size() <= kMaxEcho) return text;
  text.resize(utf8_prefix(text, kMaxEcho).size());
  return text + "...";
}

std::string reason(unsigned status) {
  return std::string(
      boost::beast::http::obsolete_reason(static_cast<boost::beast::http::status>(status)));
}

}  // namespace

ApiError::ApiError(unsigned status, std::string type, std::string message, std::string param)
    : status_(status),
      type_(std::move(type)),
      message_(std::move(message)),
      param_(std::move(param)) {}

ordered_json ApiError::json() const {
  const ordered_json param = param_.empty() ? ordered_json() : ordered_json(param_);
  return {{"error", {{"message", message_}, {"type", type_}, {"param", param}, {"code", status_}}}};
}

ApiError bad_request(std::string message, std::string param) {
  return {400, "BadRequestError", std::move(message), std::move(param)};
}

ApiError bad_value(const std::string& field, const std::string& expected,
                   const ordered_json& value) {
  const std::string found = shorten(dump(value));
  return bad_request(
      fmt::format("{0} must be {1}, got {2}. (parameter={0}, value={2})", field, expected, found),
      field);
}

ApiError bad_shape(const std::string& field, const std::string& expected,
                   const ordered_json* value) {
  std::string message = value == nullptr ? fmt::format("{} is required: {}", field, expected)
                                         : fmt::format("{} must be {}, got {}", field, expected,
                                                       shorten(dump(*value)));
  return {400, "Bad Request", std::move(message), "body." + field};
}

ApiError unsupported(const std::string& field, const std::string& why) {
  return bad_request(fmt::format("{} is not supported: {}. (parameter={})", field, why, field),
                     field);
}

ApiError http_error(unsigned status) { return http_error(status, reason(status)); }

ApiError http_error(unsigned status, std::string message) {
  return {status, reason(status), std::move(message)};
}

ApiError to_api_error(const std::exception& e) {
  if (const auto* api = dynamic_cast<const ApiError*>(&e)) return *api;
  if (const auto* error = dynamic_cast<const Error*>(&e);
      error && error->kind() == ErrorKind::kUsage)
    return bad_request(error->field_name() == "input_tokens" ? error->message() : error->what(),
                       error->field_name());
  return {500, "InternalServerError", e.what()};
}

std::string dump(const ordered_json& value) {
  return value.dump(-1, ' ', false, ordered_json::error_handler_t::replace);
}

}  // namespace octet::server
