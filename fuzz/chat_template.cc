#include "src/text/chat_template.h"
#include "src/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using octet::ordered_json;
  const std::string source(reinterpret_cast<const char*>(data), size);
  static const ordered_json messages = {
      {{"role", "system"}, {"content", "Be brief."}},
      {{"role", "user"}, {"content", "  W\u00f6rld? "}},
      {{"role", "assistant"},
       {"content", ""},
       {"tool_calls", {{{"function", {{"name", "f"}, {"arguments", {{"x", -1.5}}}}}}}}}};
  octet::text::RenderOptions options;
  options.tools = {{{"type", "function"}, {"function", {{"name", "f"}}}}};
  options.now = 0;
  try {
    // Little fuel, so that a loop costs no more than a line of text.
    const auto chat = octet::text::ChatTemplate::from_source(
        source, {{"bos_token", "<s>"}, {"eos_token", "</s>"}}, {20'000, size_t{1} << 16});
    chat.render(messages, options);
    options.tools = nullptr;
    options.add_generation_prompt = false;
    options.continue_final_message = true;
    chat.render(messages, options);
  } catch (const octet::Error&) {
  }
  return 0;
}
