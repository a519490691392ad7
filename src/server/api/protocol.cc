// The members that completions and chat share: sampling, stopping, streaming.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "src/server/api/protocol.h"
#include "src/server/http/errors.h"

namespace octet::server {
namespace {

constexpr int64_t kMaxAnswers = 16384;  // vLLM's default
constexpr size_t kMaxBadWords = 4096;   // every step looks at each
constexpr double kGreedyBelow = 1e-5;

double number_in(const Fields& f, const char* name, double fallback, double lo, double hi,
                 bool open_below = false) {
  const auto v = f.number(name);
  if (!v) return fallback;
  if (!std::isfinite(*v) || *v < lo || *v > hi || (open_below && *v == lo)) {
    const std::string above = fmt::format("{} {}", open_below ? "above" : "at least", lo);
    throw bad_value(name, std::isinf(hi) ? above : fmt::format("{} and at most {}", above, hi),
                    *f.find(name));
  }
  return *v;
}

// Members that change the answer in ways this server does not offer.
void refuse_unsupported(const Fields& f) {
  for (const char* name : {"structured_outputs", "guided_json", "guided_regex", "guided_choice",
                           "guided_grammar", "structural_tag"})
    if (f.find(name) != nullptr) throw unsupported(name, "no constrained decoding");
  if (const ordered_json* format = f.object("response_format")) {
    const auto type = Fields(*format).string("type");
    if (!type) throw bad_shape("response_format.type", "a string", nullptr);
    if (*type != "text") throw unsupported("response_format", "no constrained decoding");
  }
  for (const char* name : {"prompt_embeds", "logits_processors", "kv_transfer_params",
                           "repetition_detection", "thinking_token_budget", "logprob_token_ids"})
    if (f.find(name) != nullptr) throw unsupported(name, "not a feature of this server");
  if (f.boolean("use_beam_search", false)) throw unsupported("use_beam_search", "no beam search");
  if (f.integer("priority").value_or(0) != 0)
    throw unsupported("priority", "requests are served first come, first served");
}

void parse_distribution(const Fields& f, const GenerationConfig& defaults, SamplingParams& s) {
  s.temperature = number_in(f, "temperature", defaults.temperature.value_or(1), 0, INFINITY);
  s.top_p = number_in(f, "top_p", defaults.top_p.value_or(1), 0, 1, true);
  s.min_p = number_in(f, "min_p", defaults.min_p.value_or(0), 0, 1);
  s.top_k = std::max<int64_t>(f.integer("top_k", -1).value_or(defaults.top_k.value_or(0)), 0);
  s.repetition_penalty = number_in(f, "repetition_penalty", defaults.repetition_penalty.value_or(1),
                                   kMinRepetitionPenalty, kMaxRepetitionPenalty);
  s.frequency_penalty = number_in(f, "frequency_penalty", 0, -2, 2);
  s.presence_penalty = number_in(f, "presence_penalty", 0, -2, 2);
  s.seed = f.integer("seed");
  if (s.seed == -1) s.seed.reset();
}

void parse_bias(const Fields& f, SamplingParams& s) {
  const ordered_json* bias = f.object("logit_bias");
  if (bias == nullptr) return;
  std::vector<std::pair<int32_t, float>> biases;
  biases.reserve(bias->size());
  for (const auto& [key, value] : bias->items()) {
    const auto id = id_of(key);
    if (!id) throw bad_value("logit_bias", "a map from token ids to numbers", key);
    const auto number = number_of(value);
    if (!number || std::isnan(*number))
      throw bad_shape("logit_bias", "a map from token ids to numbers", &value);
    const auto clamped = static_cast<float>(std::clamp(*number, -100.0, 100.0));
    biases.emplace_back(*id, clamped);
  }
  // "77" and "077" are one id, of which the last counts. (Sorted: ids that share a bucket of a hash
  // table would cost the square of their number.)
  std::ranges::stable_sort(biases, {}, &std::pair<int32_t, float>::first);
  std::vector<std::pair<int32_t, float>> last;
  for (const auto& next : biases) {
    if (!last.empty() && last.back().first == next.first) last.pop_back();
    last.push_back(next);
  }
  s.logit_bias = std::move(last);
}

// Each id once: what a step costs must not grow with repetitions.
std::vector<int32_t> distinct_ids(const Fields& f, const char* name) {
  std::vector<int32_t> ids = f.token_ids(name);
  std::ranges::sort(ids);
  ids.erase(std::unique(ids.begin(), ids.end()), ids.end());
  return ids;
}

void parse_stops(const Fields& f, const ServerOptions& options, GenerationRequest& r) {
  SamplingParams& s = r.sampling;
  s.stop = f.strings("stop");
  if (s.stop.size() > options.max_stop_strings)
    throw bad_request(fmt::format("stop has {} strings, at most {} are allowed", s.stop.size(),
                                  options.max_stop_strings),
                      "stop");
  for (const std::string& text : s.stop)
    if (text.empty()) throw bad_request("stop must not hold an empty string", "stop");
  s.stop_token_ids = distinct_ids(f, "stop_token_ids");
  s.include_stop = f.boolean("include_stop_str_in_output", false);
  s.ignore_eos = f.boolean("ignore_eos", false);
  s.min_tokens = static_cast<size_t>(f.integer("min_tokens", 0).value_or(0));
  s.skip_special_tokens = f.boolean("skip_special_tokens", true);
  f.boolean("spaces_between_special_tokens", true);  // concerns slow tokenizers only
  if (f.find("allowed_token_ids") != nullptr) {
    s.allowed_token_ids = distinct_ids(f, "allowed_token_ids");
    if (s.allowed_token_ids.empty())
      throw bad_request("allowed_token_ids must not be empty", "allowed_token_ids");
  }
  r.bad_words = f.strings("bad_words");
  if (r.bad_words.size() > kMaxBadWords)
    throw bad_request(fmt::format("bad_words has {} words, at most {} are allowed",
                                  r.bad_words.size(), kMaxBadWords),
                      "bad_words");
  for (const std::string& word : r.bad_words)
    if (word.empty()) throw bad_request("bad_words must not hold an empty string", "bad_words");
}

void parse_streaming(const Fields& f, const ServerOptions& options, GenerationRequest& r) {
  r.stream = f.boolean("stream", false);
  f.integer("stream_interval", 1);  // every step gives an event
  if (const ordered_json* given = f.object("stream_options"); given && !given->empty()) {
    if (!r.stream)
      throw bad_request("stream_options are only allowed with stream: true", "stream_options");
    const Fields stream_options(*given);
    r.include_usage = stream_options.boolean("include_usage", false);
    r.continuous_usage = r.include_usage && stream_options.boolean("continuous_usage_stats", false);
  }
  if (r.stream && options.force_include_usage) r.include_usage = r.continuous_usage = true;
}

}  // namespace

void check_model(const Fields& f, const ServerOptions& options) {
  const auto model = f.string("model");
  if (!model || model->empty() || *model == options.model_path) return;
  const auto& names = options.served_model_names;
  if (std::find(names.begin(), names.end(), *model) != names.end()) return;
  throw ApiError(404, "NotFoundError",
                 fmt::format("The model `{}` does not exist.", model->substr(0, 200)), "model");
}

void parse_shared(const Fields& f, const ServerOptions& options, GenerationRequest& r) {
  check_model(f, options);
  refuse_unsupported(f);
  parse_distribution(f, options.defaults, r.sampling);
  parse_bias(f, r.sampling);
  parse_stops(f, options, r);
  parse_streaming(f, options, r);

  r.n = static_cast<size_t>(f.integer("n", 1, kMaxAnswers).value_or(1));
  if (r.n > 1 && r.sampling.temperature < kGreedyBelow)
    throw bad_request(fmt::format("n must be 1 when using greedy sampling, got {}.", r.n), "n");
  const auto min_tokens = static_cast<int64_t>(r.sampling.min_tokens);
  if (r.max_tokens && min_tokens > *r.max_tokens && !r.prompt_only())
    throw bad_request(
        fmt::format("min_tokens must be at most max_tokens={}, got {}.", *r.max_tokens, min_tokens),
        "min_tokens");

  if (const auto k = f.integer("prompt_logprobs", -1)) {
    if (options.max_logprobs >= 0 && (*k < 0 || *k > options.max_logprobs))
      throw bad_value("prompt_logprobs", fmt::format("at most {}", options.max_logprobs),
                      *f.find("prompt_logprobs"));
    if (r.stream && *k != 0)
      throw bad_request("prompt_logprobs are not available with stream: true", "prompt_logprobs");
    r.prompt_logprobs = true;
    r.sampling.prompt_logprobs = *k < 0 ? std::numeric_limits<int>::max() : static_cast<int>(*k);
  }

  r.truncate = f.integer("truncate_prompt_tokens", -1);
  if (const auto side = f.string("truncation_side")) {
    if (*side != "left" && *side != "right")
      throw bad_value("truncation_side", "\"left\" or \"right\"", *side);
    r.truncate_head = *side == "left";
  }
  r.return_token_ids = f.boolean("return_token_ids", false);
  r.tokens_as_ids = f.boolean("return_tokens_as_token_ids", options.return_tokens_as_token_ids);
  r.request_id = f.string("request_id");
  if (const auto salt = f.string("cache_salt"); salt && salt->empty())
    throw bad_request("cache_salt must not be empty", "cache_salt");
}

}  // namespace octet::server
