#include <fmt/format.h>

#include <algorithm>

#include "src/server/api/protocol.h"
#include "src/server/http/errors.h"

namespace octet::server {
namespace {

constexpr const char* kPromptShape =
    "a string, an array of strings, an array of token ids or an array of arrays of token ids";

PromptInput text_prompt(const ordered_json& text) {
  if (text.get_ref<const std::string&>().empty())
    throw bad_request("prompt must not be empty", "prompt");
  return text.get<std::string>();
}

PromptInput id_prompt(const ordered_json& ids) {
  if (ids.empty()) throw bad_request("prompt must not be empty", "prompt");
  return token_ids(ids, "prompt");
}

std::vector<PromptInput> parse_prompts(const Fields& f, size_t max_prompts) {
  const ordered_json* prompt = f.find("prompt");
  if (prompt == nullptr) throw bad_shape("prompt", kPromptShape, nullptr);
  if (prompt->is_string()) return {text_prompt(*prompt)};
  if (!prompt->is_array()) throw bad_shape("prompt", kPromptShape, prompt);
  if (prompt->empty()) throw bad_request("prompt must not be empty", "prompt");
  const auto all = [&](auto is) { return std::all_of(prompt->begin(), prompt->end(), is); };
  const bool texts = all([](const ordered_json& v) { return v.is_string(); });
  // As pydantic's lax mode reads a list of integers: 1.0, "1" and true are ids. Strings alone are
  // texts.
  if (!texts && all([](const ordered_json& v) { return v.is_primitive() && !v.is_null(); }))
    return {id_prompt(*prompt)};
  if (prompt->size() > max_prompts)
    throw bad_request(
        fmt::format("prompt holds {} prompts, at most {} are allowed", prompt->size(), max_prompts),
        "prompt");
  std::vector<PromptInput> prompts;
  if (texts) {
    for (const ordered_json& text : *prompt) prompts.push_back(text_prompt(text));
  } else if (all([](const ordered_json& v) { return v.is_array(); })) {
    for (const ordered_json& ids : *prompt) prompts.push_back(id_prompt(ids));
  } else {
    throw bad_shape("prompt", kPromptShape, prompt);
  }
  return prompts;
}

}  // namespace

GenerationRequest parse_completion(const ordered_json& body, const ServerOptions& options) {
  const Fields f(body);
  GenerationRequest r;
  r.echo = f.boolean("echo", false);
  r.max_tokens = f.integer("max_tokens", r.echo ? 0 : 1).value_or(16);
  parse_shared(f, options, r);
  r.input = parse_prompts(f, options.max_prompts);
  r.add_special_tokens = f.boolean("add_special_tokens", true);

  if (const auto k = f.integer("logprobs")) {
    if (*k < -1) throw bad_value("logprobs", "at least 0", *f.find("logprobs"));
    if (options.max_logprobs >= 0 && (*k < 0 || *k > options.max_logprobs))
      throw bad_value("logprobs", fmt::format("at most {}", options.max_logprobs),
                      *f.find("logprobs"));
    r.sampling.logprobs = *k < 0 ? std::numeric_limits<int>::max() : static_cast<int>(*k);
    if (r.echo)
      r.sampling.prompt_logprobs = std::max(r.sampling.prompt_logprobs, r.sampling.logprobs);
  }
  if (const auto best_of = f.integer("best_of", 1);
      best_of > 1 && *best_of != static_cast<int64_t>(r.n))
    throw unsupported("best_of", "only 1 or the value of n");
  if (const auto suffix = f.string("suffix"); suffix && !suffix->empty())
    throw unsupported("suffix", "this model continues text, it does not fill in");
  return r;
}

}  // namespace octet::server
