// Builds GGUF files in memory for tests, right ones and wrong ones.
#pragma once

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

namespace octet::tests {

class GgufBuilder {
 public:
  template <typename T>
  GgufBuilder& number(T v) {
    static_assert(std::is_arithmetic_v<T>);
    const auto* p = reinterpret_cast<const std::byte*>(&v);
    bytes_.insert(bytes_.end(), p, p + sizeof v);
    return *this;
  }
  GgufBuilder& raw(std::string_view s) {
    const auto* p = reinterpret_cast<const std::byte*>(s.data());
    bytes_.insert(bytes_.end(), p, p + s.size());
    return *this;
  }
  GgufBuilder& string(std::string_view s) { return number<uint64_t>(s.size()).raw(s); }
  GgufBuilder& header(uint64_t tensors, uint64_t keys, uint32_t version = 3) {
    return raw("GGUF").number(version).number(tensors).number(keys);
  }
  GgufBuilder& text(std::string_view key, std::string_view value) {
    return string(key).number<uint32_t>(8).string(value);
  }
  GgufBuilder& uint(std::string_view key, uint32_t value) {
    return string(key).number<uint32_t>(4).number(value);
  }
  GgufBuilder& real(std::string_view key, float value) {
    return string(key).number<uint32_t>(6).number(value);
  }
  GgufBuilder& flag(std::string_view key, bool value) {
    return string(key).number<uint32_t>(7).number<uint8_t>(value ? 1 : 0);
  }
  GgufBuilder& texts(std::string_view key, const std::vector<std::string>& values) {
    string(key).number<uint32_t>(9).number<uint32_t>(8).number<uint64_t>(values.size());
    for (const std::string& v : values) string(v);
    return *this;
  }
  GgufBuilder& ints(std::string_view key, const std::vector<int32_t>& values) {
    string(key).number<uint32_t>(9).number<uint32_t>(5).number<uint64_t>(values.size());
    for (const int32_t v : values) number(v);
    return *this;
  }
  GgufBuilder& tensor(std::string_view name, const std::vector<uint64_t>& dims, uint32_t type,
                      uint64_t offset) {
    string(name).number(static_cast<uint32_t>(dims.size()));
    for (const uint64_t d : dims) number(d);
    return number(type).number(offset);
  }
  GgufBuilder& align(size_t to = 32) {
    while (bytes_.size() % to != 0) bytes_.push_back(std::byte{0});
    return *this;
  }
  std::span<const std::byte> bytes() const { return bytes_; }
  std::vector<std::byte>& mutable_bytes() { return bytes_; }

 private:
  std::vector<std::byte> bytes_;
};

}  // namespace octet::tests
