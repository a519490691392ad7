// Answers 503 while there is no engine: ranks that have ended are started again.
#pragma once

#include <memory>
#include <string>

#include "src/server/http/listener.h"
#include "src/server/http/options.h"

namespace octet::server {

class Unavailable {
 public:
  // From now on, on a thread of its own. The listener keeps its socket and must outlive this.
  Unavailable(Listener& listener, const HttpOptions& options, std::string message);
  ~Unavailable();  // clients that come from now on wait for who listens next
  Unavailable(const Unavailable&) = delete;
  Unavailable& operator=(const Unavailable&) = delete;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace octet::server
