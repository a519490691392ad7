// Errors as clients of the OpenAI API see them.
#pragma once

#include <exception>
#include <string>

#include "src/base/json.h"

namespace octet::server {

// An answer other than 200. `param` names the field at fault; empty is null in the answer.
class ApiError : public std::exception {
 public:
  ApiError(unsigned status, std::string type, std::string message, std::string param = "");

  unsigned status() const { return status_; }
  const std::string& param() const { return param_; }
  const char* what() const noexcept override { return message_.c_str(); }
  // {"error": {"message", "type", "param", "code"}}
  ordered_json json() const;

 private:
  unsigned status_;
  std::string type_, message_, param_;
};

// 400 for what the server's own checks refuse.
ApiError bad_request(std::string message, std::string param = "");
// 400: "`field` must be <expected>, got <value>", the value cut short.
ApiError bad_value(const std::string& field, const std::string& expected,
                   const ordered_json& value);
// 400 for a body of the wrong shape: a member that is missing or of the wrong type.
ApiError bad_shape(const std::string& field, const std::string& expected,
                   const ordered_json* value);
// 400: the field would change the answer, and this server cannot do what it asks.
ApiError unsupported(const std::string& field, const std::string& why);
// The plain error of a status: its reason phrase as type and message.
ApiError http_error(unsigned status);
ApiError http_error(unsigned status, std::string message);

// What went wrong as an answer: ApiError as it is, Error of kind kUsage as 400 naming its field,
// anything else as 500.
ApiError to_api_error(const std::exception& e);

// Compact text; broken UTF-8 shows as U+FFFD instead of failing.
std::string dump(const ordered_json& value);

}  // namespace octet::server
