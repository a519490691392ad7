// Messages of a chat through a template that uses all of them.
#include "src/text/chat_template.h"

#include "src/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto chat_template = octet::text::ChatTemplate::from_source(
      "{%- for m in messages -%}{{ m.role }}: {{ m.content }}"
      "{%- for c in m.tool_calls or [] -%}{{ c.function.name }} {{ c.function.arguments|tojson }}"
      "{%- endfor -%}{%- endfor -%}{{ tools|tojson if tools }}",
      {}, {20'000, size_t{1} << 16});
  try {
    const octet::ordered_json messages = octet::parse_ordered_json(
        {reinterpret_cast<const char*>(data), size}, "fuzz", {.depth = 64});
    octet::text::RenderOptions options;
    options.tools = messages;
    chat_template.render(octet::text::normalize_messages(messages), options);
  } catch (const octet::Error&) {
  }
  return 0;
}
