#include "src/server/router.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <boost/asio/post.hpp>
#include <boost/beast/core/string.hpp>
#include <charconv>
#include <chrono>
#include <new>
#include <thread>

#include "src/server/api/endpoints.h"
#include "src/server/api/generation.h"
#include "src/server/api/protocol.h"
#include "src/server/http/body.h"
#include "src/server/http/errors.h"

namespace octet::server {
namespace {

constexpr std::string_view kModelPrefix = "/v1/models/", kMetrics = "/metrics";
// Routes that HTTP's figures leave out, as vLLM's do.
constexpr std::array<std::string_view, 5> kUncounted = {kMetrics, "/health", "/load", "/ping",
                                                        "/version"};
// Methods that HTTP's figures name.
constexpr std::array<std::string_view, 7> kVerbs = {"GET",    "HEAD",  "POST",   "PUT",
                                                    "DELETE", "PATCH", "OPTIONS"};
constexpr size_t kMaxIdBytes = 256;
// Larger bodies are read by threads of their own: a text of this size takes up to a quarter of a
// second to become tokens.
constexpr size_t kLargeBody = 64 << 10;

std::string header(const Exchange& exchange, http::field name) {
  return std::string(exchange.request()[name]);
}

std::string percent_decode(std::string_view text) {
  const auto digit = [](char c) {
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
  };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '%' && i + 2 < text.size() && digit(text[i + 1]) >= 0 &&
        digit(text[i + 2]) >= 0) {
      out += static_cast<char>(digit(text[i + 1]) * 16 + digit(text[i + 2]));
      i += 2;
    } else {
      out += text[i];
    }
  }
  return out;
}

// For a line of the log that others parse: bytes that could end it or be taken for its own are
// escaped.
std::string printable(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte > ' ' && byte < 0x7f && c != '"' && c != '\\')
      out += c;
    else
      out += fmt::format("\\x{:02x}", byte);
  }
  return out;
}

// "OPTIONS, GET, HEAD", from a map by method.
template <class Methods>
std::string methods_of(const Methods& methods) {
  std::vector<std::string> names = {"OPTIONS"};
  for (const auto& [method, handler] : methods) names.push_back(method);
  return fmt::format("{}", fmt::join(names, ", "));
}

// application/json, whatever parameters follow.
bool is_json(std::string_view content_type) {
  const std::string_view type = content_type.substr(0, content_type.find(';'));
  const size_t end = type.find_last_not_of(' ');
  return end != std::string_view::npos &&
         boost::beast::iequals(type.substr(0, end + 1), "application/json");
}

ordered_json parse_request(const Exchange& exchange) {
  if (!is_json(exchange.request()[http::field::content_type]))
    throw ApiError(400, "Bad Request", "Content-Type must be application/json", "body");
  return parse_body(exchange.request().body());
}

}  // namespace

Router::Router(Context& context)
    : context_(context), keys_(all_keys(context.options.api_keys, context.options.api_key_file)) {
  const auto post = [this](const char* path, bool guarded, Handler handler) {
    add_route("POST", path, guarded, std::move(handler));
  };
  post("/v1/completions", true, [this](ExchangePtr x) { generate(x, false); });
  post("/v1/chat/completions", true, [this](ExchangePtr x) { generate(x, true); });
  post("/invocations", true, [this](ExchangePtr x) { generate(x, std::nullopt); });
  post("/tokenize", false, [this](ExchangePtr x) { answer_json(x, tokenize); });
  post("/detokenize", false, [this](ExchangePtr x) { answer_json(x, detokenize); });
  add_route("GET", "/v1/models", true,
            [this](ExchangePtr x) { respond_json(*x, model_list(context_)); });
  for (const char* path : {"/health", "/ping"})
    add_route("GET", path, false, [this](ExchangePtr x) { health(*x); });
  post("/ping", false, [this](ExchangePtr x) { health(*x); });
  add_route("GET", "/version", false, [this](ExchangePtr x) {
    respond_json(*x, {{"version", context_.options.version}});
  });
  add_route("GET", "/load", false, [this](ExchangePtr x) {
    respond_json(*x, {{"server_load", context_.load.load(std::memory_order_relaxed)}});
  });
  add_route("GET", std::string(kMetrics), false, [this](ExchangePtr x) {
    x->respond({200,
                "text/plain; version=0.0.4; charset=utf-8",
                context_.metrics.text(context_.engine.stats()),
                {}});
  });
  // The one route with a name in its path.
  add_route("GET", std::string(kModelPrefix), true, [this](ExchangePtr x) {
    respond_json(*x, model_card(context_, percent_decode(find_route(x->request().target())
                                                             .path.substr(kModelPrefix.size()))));
  });
}

void Router::add_route(const std::string& method, const std::string& path, bool guarded,
                       Handler handler) {
  Route& route = routes_[path];
  route.guarded = guarded;
  if (method == "GET") route.methods["HEAD"] = handler;
  route.methods[method] = std::move(handler);
}

Router::Target Router::find_route(std::string_view target) const {
  if (const size_t scheme = target.find("://"); scheme != target.npos && target[0] != '/') {
    const size_t path = target.find('/', scheme + 3);
    target = path == target.npos ? "/" : target.substr(path);
  }
  std::string_view path = target.substr(0, target.find_first_of("?#"));
  const std::string_view query = target.substr(path.size());
  std::string_view root = context_.options.root_path;
  if (root.ends_with('/')) root.remove_suffix(1);
  const bool rooted = !root.empty() && path.starts_with(root) &&
                      (path.size() == root.size() || path[root.size()] == '/');
  if (rooted) path.remove_prefix(root.size());
  Target found;
  found.path = path;
  const std::string_view bare = path.substr(0, path.find_last_not_of('/') + 1);
  auto it = routes_.find(bare);
  if (it != routes_.end() && bare != path && bare != kMetrics)
    found.elsewhere = fmt::format("{}{}{}", rooted ? root : "", bare, query);
  if (it == routes_.end() && path.starts_with(kModelPrefix)) it = routes_.find(kModelPrefix);
  if (it != routes_.end()) {
    found.route = &it->second;
    found.name = it->first;
  }
  return found;
}

// Unknown paths under /v1 are guarded too, so that a stranger cannot tell which exist.
bool Router::admitted(const HttpRequest& header, const Target& target) const {
  if (keys_.empty()) return true;
  const bool open = target.path == "/health" || target.path == "/ping";
  const bool guarded = context_.options.guard_all_paths ? !open
                       : target.route != nullptr        ? target.route->guarded
                                                        : target.path.starts_with("/v1");
  return !guarded || keys_.admits(header[http::field::authorization]);
}

std::optional<HttpResponse> Router::refusal(const HttpRequest& header, const Target& target) const {
  if (header.method() == http::verb::options) return std::nullopt;
  if (!admitted(header, target))
    return HttpResponse{
        401, "application/json", R"({"error":"Unauthorized"})", {{"WWW-Authenticate", "Bearer"}}};
  if (!target.elsewhere.empty()) return HttpResponse{307, "", "", {{"Location", target.elsewhere}}};
  if (target.route == nullptr) return error_response(http_error(404));
  if (target.route->methods.contains(std::string_view(header.method_string()))) return std::nullopt;
  HttpResponse response = error_response(http_error(405));
  response.headers.emplace_back("Allow", methods_of(target.route->methods));
  return response;
}

bool Router::refuses(const HttpRequest& header) const {
  return refusal(header, find_route(header.target())).has_value();
}

void Router::add_common_headers(Exchange& exchange) const {
  const std::string origin = header(exchange, http::field::origin);
  const CorsOptions& cors = context_.options.cors;
  const auto has = [](const auto& list, std::string_view v) {
    return std::find(list.begin(), list.end(), v) != list.end();
  };
  if (!origin.empty() && (has(cors.origins, "*") || has(cors.origins, origin))) {
    const bool any = has(cors.origins, "*") && !cors.credentials;
    exchange.add_header("Access-Control-Allow-Origin", any ? "*" : origin);
    if (!any) exchange.add_header("Vary", "Origin");
    if (cors.credentials) exchange.add_header("Access-Control-Allow-Credentials", "true");
  }
  if (context_.options.enable_request_id_headers) {
    const auto id = exchange.request()["X-Request-Id"];
    exchange.add_header("X-Request-Id",
                        id.empty() ? random_id() : std::string(id.substr(0, kMaxIdBytes)));
  }
}

void Router::preflight(Exchange& exchange, const Target& target) const {
  const CorsOptions& cors = context_.options.cors;
  const auto list = [](const std::vector<std::string>& values, const std::string& all) {
    if (std::find(values.begin(), values.end(), "*") != values.end()) return all;
    return fmt::format("{}", fmt::join(values, ", "));
  };
  HttpResponse response{200, "text/plain; charset=utf-8", "OK", {}};
  if (header(exchange, http::field::access_control_request_method).empty()) {
    response.headers.emplace_back(
        "Allow", target.route == nullptr ? "OPTIONS" : methods_of(target.route->methods));
  } else {
    response.headers.emplace_back(
        "Access-Control-Allow-Methods",
        list(cors.methods, "DELETE, GET, HEAD, OPTIONS, PATCH, POST, PUT"));
    const std::string asked = header(exchange, http::field::access_control_request_headers);
    const std::string allowed = list(cors.headers, asked);
    if (!allowed.empty()) response.headers.emplace_back("Access-Control-Allow-Headers", allowed);
    response.headers.emplace_back("Access-Control-Max-Age", "600");
  }
  exchange.respond(std::move(response));
}

// Counts and logs the request when it is done.
void Router::record_when_done(Exchange& exchange, const Target& target) {
  const auto begin = std::chrono::steady_clock::now();
  const HttpRequest& request = exchange.request();
  const std::string_view verb = request.method_string(), path = request.target();
  // What clients make up is not counted by name: series must stay few.
  const bool known = std::find(kVerbs.begin(), kVerbs.end(), verb) != kVerbs.end();
  // A query may hold what is nobody's business.
  std::string line =
      fmt::format("{} - \"{} {} HTTP/{}.{}\"", exchange.peer(), printable(verb.substr(0, 20)),
                  printable(path.substr(0, std::min<size_t>(path.find_first_of("?#"), 200))),
                  request.version() / 10, request.version() % 10);
  size_t announced = 0;
  const std::string_view length = request[http::field::content_length];
  std::from_chars(length.data(), length.data() + length.size(), announced);
  exchange.on_done([this, begin, announced, name = std::string(target.name),
                    method = known ? std::string(verb) : "other",
                    line = std::move(line)](unsigned status, size_t bytes) {
    const std::chrono::duration<double> spent = std::chrono::steady_clock::now() - begin;
    if (std::find(kUncounted.begin(), kUncounted.end(), name) == kUncounted.end())
      context_.metrics.on_http({name, method, status, spent.count(), announced, bytes});
    if (context_.options.access_log) spdlog::info("{} {}", line, status);
  });
}

void Router::handle(ExchangePtr exchange) {
  try {
    const HttpRequest& request = exchange->request();
    const Target target = find_route(request.target());
    record_when_done(*exchange, target);
    add_common_headers(*exchange);
    if (request.method() == http::verb::options) return preflight(*exchange, target);
    if (auto response = refusal(request, target)) return exchange->respond(std::move(*response));
    target.route->methods.find(std::string_view(request.method_string()))->second(exchange);
  } catch (const std::exception& e) {
    respond_error(*exchange, e);
  }
}

void Router::health(Exchange& exchange) const {
  const bool dead =
      context_.engine.seconds_since_heartbeat() > context_.options.engine_hang_seconds;
  exchange.respond({closed_ || dead || !context_.engine.alive() ? 503u : 200u, "", "", {}});
}

// On the I/O thread, once there is memory for the way there.
void Router::abort_soon(const ExchangePtr& exchange) {
  while (true) {
    try {
      return boost::asio::post(context_.io, [exchange] { exchange->abort(); });
    } catch (const std::bad_alloc&) {
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  }
}

template <class Work>
void Router::on_pool(boost::asio::thread_pool& large, const ExchangePtr& exchange, Work work) {
  boost::asio::thread_pool& pool =
      exchange->request().body().size() > kLargeBody ? large : context_.pool;
  boost::asio::post(pool, [this, exchange, work = std::move(work)]() mutable {
    // Words for what went wrong take memory, too, which may be what there is none
    // of; what leaves the pool's thread would end the process.
    try {
      std::optional<ApiError> error;
      try {
        throw_if_gone(*exchange);
        return work();
      } catch (const ClientGone&) {
        return;
      } catch (const std::exception& e) {
        error = to_api_error(e);
      }
      boost::asio::post(context_.io,
                        [exchange, error = std::move(*error)] { respond_error(*exchange, error); });
    } catch (const std::exception&) {
      abort_soon(exchange);  // its client gets no answer; all others do
    }
  });
}

void Router::answer_json(const ExchangePtr& exchange, MakeJson make) {
  on_pool(context_.counting, exchange, [this, exchange, make] {
    const auto go_on = [&] { throw_if_gone(*exchange); };
    const ordered_json request = parse_request(*exchange);
    go_on();
    // The text, too, is made here: it may be long.
    boost::asio::post(context_.io,
                      [exchange, body = dump(make(context_, request, go_on))]() mutable {
                        exchange->respond({200, "application/json", std::move(body), {}});
                      });
  });
}

// `chat` nothing: the body tells.
void Router::generate(const ExchangePtr& exchange, std::optional<bool> chat) {
  if (closed_) throw http_error(503, "The server is shutting down.");
  on_pool(context_.large, exchange, [this, exchange, chat] {
    const ordered_json body = parse_request(*exchange);
    GenerationRequest request = chat.value_or(body.contains("messages"))
                                    ? parse_chat(body, context_.options)
                                    : parse_completion(body, context_.options);
    std::string id(exchange->request()["X-Request-Id"]);
    if (id.empty()) id = request.request_id.value_or("");
    if (id.empty()) id = random_id();
    id.resize(std::min(id.size(), kMaxIdBytes));
    std::make_shared<Generation>(context_, std::move(request), id, exchange)->submit();
  });
}

}  // namespace octet::server
