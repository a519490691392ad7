// Chat messages to the prompt text that a model was trained on: Hugging Face chat templates.
#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "src/base/error.h"
#include "src/base/json.h"

namespace octet::text {

// "bos_token" -> "<|begin_of_text|>" and so on: the names by which templates know special tokens.
using SpecialTokens = std::map<std::string, std::string>;

// The special tokens named in tokenizer_config.json and special_tokens_map.json of a model folder
// (the former wins). Absent files give an empty map; broken ones throw Error.
SpecialTokens load_special_tokens(const std::filesystem::path& model_dir);

// What a template may use up: it comes with the model, and a model may come from anywhere.
struct TemplateLimits {
  // Steps, and 64-byte units of data made or looked through, in one rendering. A chat of 1000
  // messages of 4000 bytes, a million tokens, takes less than 300 000 with Qwen2.5's template. It
  // also bounds how deep values can be nested: the stack (STACK_BYTES in bounded.rs) was enough
  // for the 360 000 levels that twice as much allows.
  uint64_t fuel = 2'000'000;
  size_t output_bytes = size_t{32} << 20;
  // For what fuel does not pay for. All of the fuel is spent in a few seconds where it does;
  // more is for a busy machine, and still within what a client waits for. A rendering that goes on
  // is given up; beside two of them no further one of this template begins.
  std::chrono::milliseconds time{10'000};
  // Held at once beside the messages: several times the 128 MB that all of the fuel pays for. A
  // rendering that wants more keeps what it has until the process ends.
  size_t memory_bytes = size_t{512} << 20;
};

struct RenderOptions {
  // Open an assistant turn at the end.
  bool add_generation_prompt = true;
  // Leave the last message open, so that the model goes on writing it. Then add_generation_prompt
  // does not count.
  bool continue_final_message = false;
  ordered_json tools;      // array of tool objects; null or empty: none
  ordered_json documents;  // array of objects; null: none
  ordered_json kwargs;     // object: further template variables (chat_template_kwargs)
  // What strftime_now shows, Unix seconds in UTC; nothing: the machine's local time.
  std::optional<int64_t> now;
};

// Other renderings hold what they may use up together.
struct TemplateBusy : Error {
  using Error::Error;
};

// A compiled chat template, Jinja as `transformers` sets it up. Copies share the compiled form;
// const methods may be called from many threads at once.
class ChatTemplate {
 public:
  // The template of a model folder: chat_template.jinja, else `chat_template` in
  // tokenizer_config.json (a string, or a list of named ones: "default", and "tool_use", which is
  // taken when there are tools; additional_chat_templates/tool_use.jinja is the same). Nothing when
  // the folder has none. Error naming the file when it is broken.
  static std::optional<ChatTemplate> load(const std::filesystem::path& model_dir,
                                          TemplateLimits limits = {});
  // kUsage Error when `source` does not parse.
  static ChatTemplate from_source(const std::string& source, SpecialTokens special_tokens,
                                  TemplateLimits limits = {});

  // The prompt for `messages`, a non-empty array of objects. Members keep their order where a
  // template prints them, hence ordered_json. kUsage Error with the template's own words when it
  // raises, with its line when it fails, when a limit is reached (within the time limit), when
  // kwargs holds a name that is not the caller's to set ("messages", "tools", "tokenize", ...), or
  // when the final message cannot be continued. TemplateBusy while others are beyond their limits.
  std::string render(const ordered_json& messages, const RenderOptions& options) const;

  // The template's text, that of the default one.
  const std::string& source() const;

 private:
  struct Impl;
  explicit ChatTemplate(std::shared_ptr<const Impl> impl);
  std::shared_ptr<const Impl> impl_;  // shared: a loaded template is immutable
};

// Chat messages of the OpenAI API in the shape that templates expect. Checks that `messages` is an
// array of objects with a string `role`; joins text parts in `content` with newlines (null or no
// content becomes ""); drops members that are null; parses `tool_calls[].function.arguments` from
// its JSON string; offers `reasoning_content`, `reasoning` and `thinking` under the other names
// too. Other members are kept. kUsage Error, naming the member, for anything else, images included.
ordered_json normalize_messages(const ordered_json& messages);

}  // namespace octet::text
