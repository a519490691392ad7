// The HTTP server: the OpenAI API, as vLLM's server speaks it, in front of one engine.
//
// One thread (the caller of run()) does all input and output, another one hears signals; small
// pools parse, apply chat templates, tokenize and render long answers; the engine's own thread only
// drops outputs into an inbox. So a slow client, a long prompt or a hostile body holds up nobody
// else.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "src/server/api/context.h"
#include "src/server/api/options.h"
#include "src/server/http/listener.h"

namespace octet::server {

class Server {
 public:
  // Connections are served once run() is called. Takes the listener's socket.
  Server(const Backend& backend, ServerOptions options, Listener& listener);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Serves until stop() or a signal; then refuses new work, lets requests finish within the grace
  // time, ends the rest with an error and returns how many those were. Once.
  size_t run();
  // Any thread.
  void stop();
  // Reads keys and certificates again, as SIGHUP does. Any thread.
  void reload();

  uint16_t port() const;
  std::string url() const;  // http://127.0.0.1:8000

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace octet::server
