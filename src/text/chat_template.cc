#include "src/text/chat_template.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>
#include <string_view>
#include <utility>

#include "octet-text-ffi/src/lib.rs.h"
#include "src/base/error.h"
#include "src/base/file.h"
#include "src/text/ffi_call.h"
#include "src/text/object_file.h"
#include "src/text/white_space.h"

namespace octet::text {
namespace {

// Marks where the final message ends in the rendered text. The trailing space tells whether the
// template trims what it prints.
constexpr std::string_view kTag = "CONTINUE_FINAL_MESSAGE_TAG ";
constexpr std::string_view kTrimmedTag = kTag.substr(0, kTag.size() - 1);

// Names of apply_chat_template's own parameters: a request that could set them through kwargs could
// slip past the checks on them.
constexpr auto kReserved = std::to_array<std::string_view>({"messages",
                                                            "conversation",
                                                            "conversations",
                                                            "tools",
                                                            "documents",
                                                            "chat_template",
                                                            "add_generation_prompt",
                                                            "continue_final_message",
                                                            "tokenize",
                                                            "padding",
                                                            "truncation",
                                                            "max_length",
                                                            "return_tensors",
                                                            "return_dict",
                                                            "return_assistant_tokens_mask",
                                                            "sanitize_control_tokens",
                                                            "tokenizer_kwargs",
                                                            "raise_exception",
                                                            "strftime_now",
                                                            "self"});

constexpr auto kSpecialTokenNames = std::to_array<const char*>(
    {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"});

struct Sources {
  std::string standard, tool_use;  // empty: there is none
  fs::path file;
};

Error bad_template_field(const fs::path& file, std::string field) {
  return Error("bad chat template")
      .file(file.string())
      .field(std::move(field))
      .expected("a string");
}

void read_named(const ordered_json& list, Sources& sources) {
  for (const ordered_json& entry : list) {
    if (!entry.is_object() || !entry.contains("name") || !entry["name"].is_string() ||
        !entry.contains("template") || !entry["template"].is_string())
      throw bad_template_field(sources.file, "chat_template[].name, chat_template[].template");
    if (entry["name"] == "default") sources.standard = entry["template"];
    if (entry["name"] == "tool_use") sources.tool_use = entry["template"];
  }
}

Sources find_sources(const fs::path& dir) {
  Sources sources;
  if (has_entry(dir / "chat_template.jinja")) {
    sources.file = dir / "chat_template.jinja";
    sources.standard = read_text(sources.file);
  } else {
    sources.file = dir / "tokenizer_config.json";
    const ordered_json config = read_object_file<ordered_json>(sources.file);
    const auto it = config.find("chat_template");
    if (it == config.end() || it->is_null()) return sources;
    if (it->is_array()) {
      read_named(*it, sources);
    } else if (it->is_string()) {
      sources.standard = *it;
    } else {
      throw bad_template_field(sources.file, "chat_template");
    }
  }
  const fs::path tool_use = dir / "additional_chat_templates" / "tool_use.jinja";
  if (has_entry(tool_use)) sources.tool_use = read_text(tool_use);
  return sources;
}

rust::Box<ffi::TemplateHandle> compile(const std::string& source, uint64_t fuel) {
  return ffi_call("", [&] { return ffi::compile_template(ffi_bytes(source), fuel); });
}

// Cuts `rendered` where the final message ends, the text of which is `content`.
std::string cut_after_final_message(std::string rendered, std::string_view content) {
  const size_t at = rendered.rfind(kTrimmedTag);
  if (at == std::string::npos || rendered.find(strip(content)) == std::string::npos)
    throw usage_error(
        "continue_final_message: the chat template does not print the final message as it stands, "
        "so it cannot be continued");
  const bool spacing_kept = rendered.compare(at, kTag.size(), kTag) == 0;
  rendered.resize(at);
  // A template that trims would have trimmed what stands before the tag, too.
  if (!spacing_kept) rendered.resize(strip_right(rendered).size());
  return rendered;
}

}  // namespace

struct ChatTemplate::Impl {
  std::string source;
  SpecialTokens special_tokens;
  TemplateLimits limits;
  rust::Box<ffi::TemplateHandle> standard;
  std::optional<rust::Box<ffi::TemplateHandle>> tool_use;
};

ChatTemplate::ChatTemplate(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}

SpecialTokens load_special_tokens(const fs::path& model_dir) {
  SpecialTokens tokens;
  for (const char* file : {"special_tokens_map.json", "tokenizer_config.json"}) {
    const ordered_json config = read_object_file<ordered_json>(model_dir / file);
    for (const char* name : kSpecialTokenNames) {
      auto it = config.find(name);
      if (it == config.end()) continue;
      // Either the text or an added token's description with the text in it.
      const ordered_json& token =
          it->is_object() && it->contains("content") ? (*it)["content"] : *it;
      if (token.is_string()) {
        tokens[name] = token;
      } else if (!token.is_null()) {
        throw Error("bad special token")
            .file((model_dir / file).string())
            .field(name)
            .expected("a string, null or an object with \"content\"");
      }
    }
  }
  return tokens;
}

std::optional<ChatTemplate> ChatTemplate::load(const fs::path& model_dir, TemplateLimits limits) {
  const Sources sources = find_sources(model_dir);
  if (sources.standard.empty() && sources.tool_use.empty()) return std::nullopt;
  try {
    const bool only_tools = sources.standard.empty();
    ChatTemplate result = from_source(only_tools ? sources.tool_use : sources.standard,
                                      load_special_tokens(model_dir), limits);
    if (only_tools || sources.tool_use.empty()) return result;
    const Impl& base = *result.impl_;
    return ChatTemplate(std::make_shared<const Impl>(Impl{base.source, base.special_tokens, limits,
                                                          compile(sources.standard, limits.fuel),
                                                          compile(sources.tool_use, limits.fuel)}));
  } catch (const Error& e) {
    if (e.kind() != ErrorKind::kUsage) throw;
    throw Error(e.message()).file(sources.file.string());  // the model's fault, not the caller's
  }
}

ChatTemplate ChatTemplate::from_source(const std::string& source, SpecialTokens special_tokens,
                                       TemplateLimits limits) {
  auto handle = compile(source, limits.fuel);
  return ChatTemplate(std::make_shared<const Impl>(
      Impl{source, std::move(special_tokens), limits, std::move(handle), std::nullopt}));
}

const std::string& ChatTemplate::source() const { return impl_->source; }

std::string ChatTemplate::render(const ordered_json& messages, const RenderOptions& options) const {
  if (!messages.is_array() || messages.empty())
    throw usage_error("there must be at least one message").field("messages");
  if (!options.kwargs.is_null() && !options.kwargs.is_object())
    throw usage_error("bad value").field("chat_template_kwargs").expected("an object");
  if (!options.tools.is_null() && !options.tools.is_array())
    throw usage_error("bad value").field("tools").expected("an array");
  if (!options.documents.is_null() && !options.documents.is_array())
    throw usage_error("bad value").field("documents").expected("an array");

  // Copied as a whole: an ordered object looks for each new member among all others.
  ordered_json variables = options.kwargs.is_object() ? options.kwargs : ordered_json::object();
  for (const auto& [name, value] : variables.items())
    if (std::find(kReserved.begin(), kReserved.end(), name) != kReserved.end())
      throw usage_error(fmt::format("\"{}\" cannot be set through chat_template_kwargs", name))
          .field("chat_template_kwargs");
  for (const auto& [name, token] : impl_->special_tokens)
    if (!variables.contains(name)) variables[name] = token;
  const bool with_tools = options.tools.is_array() && !options.tools.empty();
  variables["messages"] = messages;
  variables["tools"] = with_tools ? options.tools : ordered_json();
  variables["documents"] = options.documents;
  variables["add_generation_prompt"] =
      options.add_generation_prompt && !options.continue_final_message;

  std::string content;
  if (options.continue_final_message) {
    ordered_json& last = variables["messages"].back();
    if (!last.is_object() || !last.contains("content") || !last["content"].is_string())
      throw usage_error("continue_final_message: the final message has no text to continue")
          .field("messages");
    content = last["content"];
    last["content"] = content + std::string(kTag);
  }

  std::string text;
  try {
    text = variables.dump();
  } catch (const nlohmann::json::exception&) {  // the only failure of dump()
    throw usage_error("a chat message is not valid UTF-8").field("messages");
  }
  const auto& handle = with_tools && impl_->tool_use ? *impl_->tool_use : impl_->standard;
  ffi::Rendered result = ffi_call("", [&] {
    const TemplateLimits& limits = impl_->limits;
    return handle->render(ffi_bytes(text),
                          {.output_bytes = limits.output_bytes,
                           .memory_bytes = limits.memory_bytes,
                           .milliseconds = static_cast<uint64_t>(limits.time.count())},
                          options.now.value_or(std::numeric_limits<int64_t>::min()));
  });
  std::string rendered(result.text);
  if (result.busy) throw TemplateBusy(rendered);
  return options.continue_final_message ? cut_after_final_message(std::move(rendered), content)
                                        : rendered;
}

}  // namespace octet::text
