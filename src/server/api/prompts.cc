#include "src/server/api/prompts.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "src/server/http/errors.h"
#include "src/text/stream_decoder.h"

namespace octet::server {
namespace {

// Tokens that a prompt may have before it is truncated: some seconds' work.
constexpr size_t kMaxTruncated = 1 << 20;

// Clients recognize the overflow by how the message begins.
ApiError context_error(size_t limit, const std::string& excess) {
  return bad_request(
      fmt::format("This model's maximum context length is {} tokens. However, {} Reduce the prompt "
                  "or the number of output tokens. (parameter=input_tokens)",
                  limit, excess),
      "input_tokens");
}

std::string_view strip_left(std::string_view text) {
  text.remove_prefix(std::min(text.find_first_not_of(" \t\r\n"), text.size()));
  return text;
}

}  // namespace

std::string PromptMaker::render(const ChatInput& chat) const {
  if (template_ == nullptr)
    throw bad_request(
        "the model has no chat template: start the server with --chat-template, or use "
        "/v1/completions",
        "messages");
  try {
    return template_->render(chat.messages, chat.render);
  } catch (const text::TemplateBusy& e) {
    throw http_error(503, e.what());
  }
}

std::vector<int32_t> PromptMaker::encode(std::string_view text, bool add_special_tokens,
                                         const std::function<void()>& go_on) const {
  return tokenizer_.encode(text, add_special_tokens, "", [&](size_t) { go_on(); });
}

// Tokens that the text has at least, known without making them.
size_t PromptMaker::least_tokens(std::string_view text) const {
  return text.size() / std::max<size_t>(tokenizer_.longest_token_bytes(), 1);
}

// Text that cannot fit into the context is refused before it is tokenized, or as soon as so many
// tokens are made.
Prompt PromptMaker::prompt_of_text(const GenerationRequest& r, std::string_view text,
                                   const std::function<void()>& go_on) const {
  const auto check = [&](size_t least) {
    if (r.truncate && least > kMaxTruncated)
      throw bad_request(fmt::format("your prompt contains at least {} input tokens, and at most {} "
                                    "are truncated",
                                    least, kMaxTruncated),
                        "truncate_prompt_tokens");
    if (least > max_model_len_ && !r.truncate)
      throw context_error(max_model_len_,
                          fmt::format("your prompt contains at least {} input tokens.", least));
  };
  check(least_tokens(text));
  const auto watch = [&](size_t tokens) {
    go_on();
    check(tokens);
  };
  Prompt prompt;
  prompt.is_text = !r.truncate;
  if (r.echo && prompt.is_text && r.sampling.logprobs >= 0) {
    prompt.places = tokenizer_.encode_places(text, r.add_special_tokens, watch);
    for (const text::PlacedToken& t : prompt.places) prompt.tokens.push_back(t.id);
  } else {
    prompt.tokens = tokenizer_.encode(text, r.add_special_tokens, "", watch);
  }
  fit(r, prompt);
  return prompt;
}

void PromptMaker::fit(const GenerationRequest& r, Prompt& prompt) const {
  std::vector<int32_t>& tokens = prompt.tokens;
  const auto wanted = static_cast<size_t>(std::max<int64_t>(r.max_tokens.value_or(1), 1));
  if (r.truncate) {
    const auto asked = static_cast<size_t>(*r.truncate);
    if (*r.truncate > 0 && asked > max_model_len_)
      throw bad_value("truncate_prompt_tokens", fmt::format("at most {}", max_model_len_),
                      *r.truncate);
    const size_t room = max_model_len_ - std::min(wanted, max_model_len_);
    const size_t keep = std::min(*r.truncate < 0 ? room : asked, tokens.size());
    if (r.truncate_head)
      tokens.erase(tokens.begin(), tokens.end() - static_cast<ptrdiff_t>(keep));
    else
      tokens.resize(keep);
  }
  if (tokens.empty()) throw bad_request("prompt must not be empty", "prompt");
  if (wanted > max_model_len_ || tokens.size() > max_model_len_ - wanted)
    throw context_error(
        max_model_len_,
        fmt::format("you requested {} output tokens and your prompt contains {} input tokens.",
                    wanted, tokens.size()));
  prompt.max_tokens = r.max_tokens ? wanted : max_model_len_ - tokens.size();
}

// A character that the prompt ends in belongs to the answer, which may complete it.
std::string PromptMaker::text_of(const Prompt& prompt, const GenerationRequest& r) const {
  text::StreamDecoder decoder(tokenizer_, r.sampling.skip_special_tokens);
  std::string text;
  for (int32_t id : prompt.tokens) text += decoder.push(id);
  return r.prompt_only() ? text + decoder.flush() : text;
}

std::vector<Prompt> PromptMaker::make(const GenerationRequest& r,
                                      const std::function<void()>& go_on) const {
  std::vector<Prompt> prompts;
  go_on();
  if (const auto* chat = std::get_if<ChatInput>(&r.input)) {
    const std::string text = render(*chat);
    go_on();
    prompts.push_back(prompt_of_text(r, text, go_on));
    return prompts;
  }
  for (const PromptInput& input : std::get<std::vector<PromptInput>>(r.input)) {
    go_on();
    Prompt prompt;
    if (const auto* text = std::get_if<std::string>(&input)) {
      prompt = prompt_of_text(r, *text, go_on);
      if (r.echo && prompt.is_text) prompt.text = *text;
    } else {
      prompt.tokens = std::get<std::vector<int32_t>>(input);
      fit(r, prompt);
    }
    if (r.echo && !prompt.is_text) prompt.text = text_of(prompt, r);
    prompts.push_back(std::move(prompt));
  }
  return prompts;
}

std::vector<std::vector<int32_t>> PromptMaker::bad_words(
    const std::vector<std::string>& words) const {
  std::set<std::vector<int32_t>> out;
  const auto add = [&](std::vector<int32_t> tokens) { out.insert(std::move(tokens)); };
  // Behind a line's end a word has no space, which sentencepiece's tokenizers give it at a start.
  const std::vector<int32_t> line = tokenizer_.encode("\n", false);
  for (const std::string& word : words) {
    const std::string bare(strip_left(word));
    if (least_tokens(bare) > max_model_len_) continue;  // longer than any answer
    std::vector<int32_t> start = tokenizer_.encode(bare, false);
    if (start.empty()) throw bad_request("bad_words must not hold a blank string", "bad_words");
    add(std::move(start));
    add(tokenizer_.encode(" " + bare, false));
    std::vector<int32_t> inside = tokenizer_.encode("\n" + bare, false);
    if (inside.size() > line.size() && std::equal(line.begin(), line.end(), inside.begin()))
      add({inside.begin() + static_cast<ptrdiff_t>(line.size()), inside.end()});
  }
  return {out.begin(), out.end()};
}

}  // namespace octet::server
