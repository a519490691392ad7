// normalize_messages (src/text/chat_template.h): the API's messages in the shape templates expect.
#include <fmt/format.h>

#include <array>
#include <string>
#include <utility>

#include "src/base/error.h"
#include "src/base/json_member.h"
#include "src/text/chat_template.h"

namespace octet::text {
namespace {

constexpr auto kReasoningNames =
    std::to_array<const char*>({"reasoning_content", "thinking", "reasoning"});

Error bad_member(const std::string& field, std::string expected) {
  return usage_error("bad chat message").field(field).expected(std::move(expected));
}

// The text of one content part: a string or an object whose type says where its text is.
std::string part_text(const ordered_json& part, const std::string& field) {
  if (part.is_string()) return part;
  if (!part.is_object()) throw bad_member(field, "a text part");
  std::string type = "text";
  if (const auto it = part.find("type"); it != part.end()) {
    if (!it->is_string()) throw bad_member(field + ".type", "a string");
    type = *it;
  }
  if (type != "text" && type != "input_text" && type != "output_text" && type != "refusal") {
    throw usage_error(fmt::format("this model takes text only, not \"{}\"", type.substr(0, 40)))
        .field(field);
  }
  const char* member = type == "refusal" ? "refusal" : "text";
  const auto it = part.find(member);
  if (it == part.end() || !it->is_string())
    throw bad_member(fmt::format("{}.{}", field, member), "a string");
  return *it;
}

std::string content_text(const ordered_json& message, const std::string& where) {
  const auto it = message.find("content");
  if (it == message.end() || it->is_null()) return {};
  const std::string field = where + ".content";
  if (it->is_string()) return *it;
  if (!it->is_array()) throw bad_member(field, "a string, null or an array of text parts");
  std::string text;
  for (size_t i = 0; i < it->size(); ++i) {
    if (i > 0) text += '\n';
    text += part_text((*it)[i], fmt::format("{}[{}]", field, i));
  }
  return text;
}

// Clients send a call's arguments as a JSON string; templates print the object.
void parse_arguments(ordered_json& message, const std::string& where) {
  const auto calls = message.find("tool_calls");
  if (calls == message.end()) return;
  if (!calls->is_array()) throw bad_member(where + ".tool_calls", "an array");
  for (size_t i = 0; i < calls->size(); ++i) {
    const std::string field = fmt::format("{}.tool_calls[{}].function", where, i);
    ordered_json& call = (*calls)[i];
    if (!call.is_object() || !call.contains("function") || !call["function"].is_object())
      throw bad_member(field, "an object");
    ordered_json& function = call["function"];
    const auto arguments = function.find("arguments");
    if (arguments == function.end() || arguments->is_null()) {
      function["arguments"] = ordered_json::object();
    } else if (arguments->is_string()) {
      const std::string text = *arguments;
      try {
        *arguments = text.empty() ? ordered_json::object()
                                  : parse_ordered_json(text, field + ".arguments", {.depth = 64});
      } catch (const Error&) {
        throw bad_member(field + ".arguments", "the text of a JSON object");
      }
    }
  }
}

void alias_reasoning(ordered_json& message) {
  for (const char* name : kReasoningNames) {
    const auto it = message.find(name);
    if (it == message.end()) continue;
    ordered_json value = *it;  // a copy: members that are added move it
    if (!message.contains("thinking")) message["thinking"] = value;
    message["reasoning_content"] = std::move(value);
    return;
  }
}

}  // namespace

ordered_json normalize_messages(const ordered_json& messages) {
  if (!messages.is_array()) throw bad_member("messages", "an array");
  ordered_json result = ordered_json::array();
  for (size_t i = 0; i < messages.size(); ++i) {
    const std::string where = fmt::format("messages[{}]", i);
    const ordered_json& message = messages[i];
    if (!message.is_object()) throw bad_member(where, "an object");
    const auto role = message.find("role");
    if (role == message.end() || !role->is_string()) throw bad_member(where + ".role", "a string");
    ordered_json out = ordered_json::object();
    for (const auto& [name, value] : message.items()) {
      // Templates test members for presence, and would print a null one as "None".
      if (name == "content" || !value.is_null()) append_member(out, name, value);
    }
    out["content"] = content_text(message, where);
    parse_arguments(out, where);
    alias_reasoning(out);
    result.push_back(std::move(out));
  }
  return result;
}

}  // namespace octet::text
