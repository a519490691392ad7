// The one error type of Octet and the check for our own bugs.
//
// Error is thrown for what a user, a file or the network did wrong. It carries enough to act on:
// what went wrong, where (file, tensor, layer, field), what was expected, what was found and what
// to do. Libraries neither print nor exit; main() turns an Error into one clear line.
#pragma once

#include <exception>
#include <string>
#include <utility>

namespace octet {

// How an error reaches the outside: exit code 2 or HTTP 400 for kUsage, exit code 1 or HTTP 500
// for kFailure.
enum class ErrorKind { kFailure, kUsage };

class Error : public std::exception {
 public:
  explicit Error(std::string what, ErrorKind kind = ErrorKind::kFailure)
      : kind_(kind), what_(std::move(what)) {
    render();
  }

  // Builders: `throw Error("wrong shape").file(path).tensor(name).expected("[n, k]").found("[3]")`.
  Error&& file(std::string v) && { return set(file_, std::move(v)); }
  Error&& tensor(std::string v) && { return set(tensor_, std::move(v)); }
  Error&& field(std::string v) && { return set(field_, std::move(v)); }
  Error&& expected(std::string v) && { return set(expected_, std::move(v)); }
  Error&& found(std::string v) && { return set(found_, std::move(v)); }
  Error&& remedy(std::string v) && { return set(remedy_, std::move(v)); }

  // One thing more to do, beside the remedy there may be.
  void add_remedy(const std::string& v) {
    remedy_ += (remedy_.empty() ? "" : "; ") + v;
    render();
  }

  const char* what() const noexcept override { return text_.c_str(); }
  ErrorKind kind() const { return kind_; }
  // The parts, for callers that report them one by one (`octet check --json`, the server).
  const std::string& message() const { return what_; }
  const std::string& tensor_name() const { return tensor_; }
  const std::string& field_name() const { return field_; }

 private:
  Error&& set(std::string& part, std::string v) {
    part = std::move(v);
    render();
    return std::move(*this);
  }
  void render();

  ErrorKind kind_;
  std::string what_, file_, tensor_, field_, expected_, found_, remedy_;
  std::string text_;  // all parts in one line
};

// A usage error: bad flag, bad combination of flags (exit code 2).
inline Error usage_error(std::string what) { return Error(std::move(what), ErrorKind::kUsage); }

namespace internal {
[[noreturn]] void check_failed(const char* condition, const char* file, int line);
}  // namespace internal

// Guards against our own bugs; stays on in release builds. Not for user input.
#define OCTET_CHECK(condition)                                         \
  do {                                                                 \
    if (!(condition)) [[unlikely]]                                     \
      ::octet::internal::check_failed(#condition, __FILE__, __LINE__); \
  } while (false)

}  // namespace octet
