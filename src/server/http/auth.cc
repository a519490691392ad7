#include "src/server/http/auth.h"

#include <openssl/crypto.h>
#include <openssl/sha.h>

#include <boost/beast/core/string.hpp>
#include <sstream>

#include "src/base/error.h"
#include "src/base/file.h"

namespace octet::server {

std::vector<std::string> read_key_file(const std::string& path) {
  std::vector<std::string> keys;
  try {
    std::istringstream lines(read_text(path));
    for (std::string line; std::getline(lines, line);) {
      const size_t begin = line.find_first_not_of(" \t\r"), end = line.find_last_not_of(" \t\r");
      if (begin != line.npos && line[begin] != '#')
        keys.push_back(line.substr(begin, end + 1 - begin));
    }
  } catch (const Error& e) {
    throw usage_error(e.what());
  }
  if (keys.empty()) throw usage_error("holds no key").file(path);
  return keys;
}

std::vector<std::string> all_keys(std::vector<std::string> keys, const std::string& file) {
  if (file.empty()) return keys;
  const std::vector<std::string> more = read_key_file(file);
  keys.insert(keys.end(), more.begin(), more.end());
  return keys;
}

KeyRing::KeyRing(const std::vector<std::string>& keys) {
  for (const std::string& key : keys) digests_.push_back(digest(key));
}

KeyRing::Digest KeyRing::digest(std::string_view key) {
  Digest d;
  SHA256(reinterpret_cast<const unsigned char*>(key.data()), key.size(), d.data());
  return d;
}

bool KeyRing::admits(std::string_view authorization) const {
  const size_t space = authorization.find(' ');
  if (space == std::string_view::npos) return false;
  if (!boost::beast::iequals(authorization.substr(0, space), "bearer")) return false;
  const Digest given = digest(authorization.substr(space + 1));
  bool found = false;
  for (const Digest& d : digests_)
    found |= CRYPTO_memcmp(given.data(), d.data(), given.size()) == 0;
  return found;
}

}  // namespace octet::server
