// API keys.
#pragma once

#include <array>
#include <string>
#include <string_view>
#include <vector>

namespace octet::server {

// The keys in a file, one a line; empty lines and those that begin with # do not count. kUsage
// Error when it cannot be read or holds none.
std::vector<std::string> read_key_file(const std::string& path);

// These and those in the file, if one is named. Throws as read_key_file().
std::vector<std::string> all_keys(std::vector<std::string> keys, const std::string& file);

// Keeps digests of the keys, compares in constant time and with every key.
class KeyRing {
 public:
  explicit KeyRing(const std::vector<std::string>& keys);

  bool empty() const { return digests_.empty(); }
  // Whether the value of an Authorization header is "Bearer <one of the keys>".
  bool admits(std::string_view authorization) const;

 private:
  using Digest = std::array<unsigned char, 32>;
  static Digest digest(std::string_view key);

  std::vector<Digest> digests_;
};

}  // namespace octet::server
