#include <fmt/format.h>

#include <algorithm>

#include "src/server/api/protocol.h"
#include "src/server/http/errors.h"

namespace octet::server {
namespace {

// Whether `tools` has a function of that name.
bool has_function(const ordered_json* tools, const std::string& name) {
  return tools != nullptr && std::any_of(tools->begin(), tools->end(), [&](const ordered_json& t) {
           return t.is_object() && t.contains("function") && t["function"].is_object() &&
                  t["function"].value("name", ordered_json()) == name;
         });
}

// The tools go into the prompt; calls are not parsed out of answers yet, so every choice but
// "none" is refused.
void parse_tools(const Fields& f, ChatInput& input) {
  const ordered_json* tools = f.array("tools");
  if (tools != nullptr && tools->empty()) tools = nullptr;  // old clients send it for "none"
  if (tools != nullptr)
    for (const ordered_json& tool : *tools) {
      if (!tool.is_object()) throw bad_shape("tools", "an array of objects", &tool);
      const ordered_json* function = Fields(tool).object("function");
      if (function == nullptr || !Fields(*function).string("name"))
        throw bad_shape("tools[].function.name", "a string", nullptr);
    }
  const ordered_json* choice = f.find("tool_choice");
  if (choice != nullptr && choice->is_object()) {
    const ordered_json* function = Fields(*choice).object("function");
    const auto name = function == nullptr ? std::nullopt : Fields(*function).string("name");
    if (!name) throw bad_shape("tool_choice.function.name", "a string", nullptr);
    if (!has_function(tools, *name))
      throw bad_request(
          fmt::format("tool_choice names `{}`, which is not among tools", name->substr(0, 100)),
          "tool_choice");
    throw unsupported("tool_choice", "a named function needs constrained decoding");
  }
  std::string mode = tools == nullptr ? "none" : "auto";
  if (choice != nullptr) {
    mode = f.string("tool_choice").value();
    if (mode != "none" && mode != "auto" && mode != "required")
      throw bad_value("tool_choice", "none, auto, required or a named function", *choice);
    if (mode != "none" && tools == nullptr)
      throw bad_request("tool_choice needs tools", "tool_choice");
  }
  if (mode == "auto")
    throw bad_request(
        "\"auto\" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set",
        "tool_choice");
  if (mode == "required")
    throw unsupported("tool_choice", "\"required\" needs constrained decoding");
  if (tools != nullptr) input.render.tools = *tools;
}

void parse_chat_logprobs(const Fields& f, const ServerOptions& options, SamplingParams& s) {
  const bool wanted = f.boolean("logprobs", false);
  const int64_t top = f.integer("top_logprobs", -1).value_or(0);
  if (top != 0 && !wanted) throw bad_request("top_logprobs needs logprobs: true", "top_logprobs");
  if (options.max_logprobs >= 0 && (top < 0 || top > options.max_logprobs))
    throw bad_value("top_logprobs", fmt::format("at most {}", options.max_logprobs),
                    *f.find("top_logprobs"));
  if (wanted) s.logprobs = top < 0 ? std::numeric_limits<int>::max() : static_cast<int>(top);
}

}  // namespace

ChatInput parse_chat_input(const Fields& f) {
  ChatInput input;
  const ordered_json* messages = f.array("messages");
  if (messages == nullptr) throw bad_shape("messages", "an array of messages", nullptr);
  if (messages->empty()) throw bad_request("messages must not be empty", "messages");
  input.messages = text::normalize_messages(*messages);

  text::RenderOptions& render = input.render;
  const bool asked = f.find("add_generation_prompt") != nullptr;
  render.add_generation_prompt = f.boolean("add_generation_prompt", true);
  render.continue_final_message = f.boolean("continue_final_message", false);
  if (render.continue_final_message && asked && render.add_generation_prompt)
    throw bad_request("add_generation_prompt and continue_final_message cannot both be true",
                      "continue_final_message");
  const char* kRefusal = "templates come with the model, not with requests";
  if (f.find("chat_template") != nullptr) throw unsupported("chat_template", kRefusal);
  render.kwargs = ordered_json::object();
  if (const ordered_json* kwargs = f.object("chat_template_kwargs")) {
    if (kwargs->contains("chat_template"))
      throw unsupported("chat_template_kwargs.chat_template", kRefusal);
    render.kwargs = *kwargs;
  }
  if (const auto effort = f.string("reasoning_effort"))
    if (!render.kwargs.contains("reasoning_effort")) render.kwargs["reasoning_effort"] = *effort;
  if (const ordered_json* documents = f.array("documents")) render.documents = *documents;
  return input;
}

GenerationRequest parse_chat(const ordered_json& body, const ServerOptions& options) {
  const Fields f(body);
  GenerationRequest r;
  r.max_tokens = f.integer("max_completion_tokens", 1);
  if (const auto old_name = f.integer("max_tokens", 1); !r.max_tokens) r.max_tokens = old_name;
  parse_shared(f, options, r);
  parse_chat_logprobs(f, options, r.sampling);
  ChatInput input = parse_chat_input(f);
  parse_tools(f, input);
  r.add_special_tokens = f.boolean("add_special_tokens", false);

  const ordered_json& last = input.messages.back();
  r.role = options.response_role;
  if (!input.render.add_generation_prompt) r.role = last["role"].get<std::string>();
  if (f.boolean("echo", false) && last["role"] == r.role)
    r.echo_text = last["content"].get<std::string>();
  r.input = std::move(input);
  return r;
}

}  // namespace octet::server
