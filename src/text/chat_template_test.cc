#include "src/text/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/text/tokenizer.h"

namespace octet::text {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

const SpecialTokens kTokens = {{"bos_token", "<s>"}, {"eos_token", "</s>"}};

std::string usage_text(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& e) {
    EXPECT_EQ(e.kind(), ErrorKind::kUsage) << e.what();
    return e.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

std::string render(const std::string& source, const RenderOptions& options = {},
                   TemplateLimits limits = {}) {
  const ordered_json message = {{"role", "user"}, {"content", "Hi"}};
  return ChatTemplate::from_source(source, kTokens, limits)
      .render(ordered_json::array({message}), options);
}

RenderOptions options_of(const ordered_json& arguments) {
  RenderOptions options;
  options.now = 1704153600;  // 2 January 2024
  options.kwargs = ordered_json::object();
  for (const auto& [name, value] : arguments.items()) {
    if (name == "add_generation_prompt") {
      options.add_generation_prompt = value;
    } else if (name == "continue_final_message") {
      options.continue_final_message = value;
    } else if (name == "tools") {
      options.tools = value;
    } else if (name == "documents") {
      options.documents = value;
    } else {
      options.kwargs[name] = value;
    }
  }
  return options;
}

// tools/chat_template_golden.py: what `transformers` makes of the same templates.
TEST(ChatTemplate, RendersAsTransformersDoes) {
  const std::string file = OCTET_SOURCE_DIR "/src/text/testdata/chat_cases.json";
  const ordered_json golden = parse_ordered_json(read_text(file), file);
  ASSERT_GT(golden["cases"].size(), 30u);
  for (const ordered_json& c : golden["cases"]) {
    SCOPED_TRACE(c["name"].get<std::string>());
    const auto run = [&] {
      return ChatTemplate::from_source(c["template"], kTokens)
          .render(golden["messages"], options_of(c["arguments"]));
    };
    if (c["expected"].is_null()) {
      usage_text(run);
      continue;
    }
    try {
      EXPECT_EQ(run(), c["expected"].get<std::string>());
    } catch (const Error& e) {
      ADD_FAILURE() << e.what();
    }
  }
}

TEST(ChatTemplate, GivesTheTemplatesOwnWords) {
  EXPECT_EQ(usage_text([] { render("{{ raise_exception('Only user and assistant!') }}"); }),
            "Only user and assistant!");
  EXPECT_EQ(usage_text([] {
              render("{% macro m() %}{{ raise_exception('deep') }}{% endmacro %}{{ m() }}");
            }),
            "deep");
  EXPECT_THAT(usage_text([] { render("a\n{{ nothing.at.all }}"); }), HasSubstr("line 2"));
  EXPECT_THAT(usage_text([] { render("\n\n{% if %}"); }), HasSubstr("line 3"));
  EXPECT_THAT(usage_text([] { render("\xff"); }), HasSubstr("UTF-8"));
}

TEST(ChatTemplate, StopsTemplatesThatDoNotEnd) {
  const TemplateLimits limits{.fuel = 100'000, .output_bytes = 10'000};
  const auto names = [](const char* limit) {
    return AllOf(HasSubstr(limit), HasSubstr("--chat-template"));
  };
  const std::string endless =
      "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}"
      "{% endfor %}{% endfor %}{% endfor %}";
  EXPECT_THAT(usage_text([&] { render(endless, {}, limits); }), names("limit of 100000 steps"));
  EXPECT_THAT(usage_text([&] { render("{{ 'a' * 10001 }}", {}, limits); }),
              names("limit of 10000 bytes"));
  EXPECT_EQ(render("{{ 'a' * 10000 }}", {}, limits).size(), 10000u);
  // Doubling: memory is bounded too.
  EXPECT_THAT(usage_text([&] {
                render(
                    "{% set n = namespace(s='a') %}{% for i in range(60) %}"
                    "{% set n.s = n.s + n.s %}{% endfor %}",
                    {}, limits);
              }),
              HasSubstr("steps"));
  usage_text([&] { render("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", {}, limits); });
  usage_text([&] { render("{{ " + std::string(5000, '(') + "1", {}, limits); });
  // Nothing of the machine can be reached.
  usage_text([] { render("{% include '/etc/passwd' %}"); });
  usage_text([] { render("{{ ''.__class__.__mro__ }}"); });
}

// Widths, and what is joined or put in, is paid for before it is made; the output limit comes
// later.
TEST(ChatTemplate, LongStringsThatMethodsMakeArePaidFor) {
  const std::string doubled =
      "{% set ns = namespace(x=['']) %}{% for i in range(24) %}{% set ns.x = ns.x + ns.x %}"
      "{% endfor %}";
  for (const std::string& source :
       {std::string("{{ '{:>999999999}'.format(1) }}"),
        std::string("{{ '{:.999999999}'.format(1.5) }}"),
        std::string("{{ '{0[}]:>999999999}'.format({'}': 1}) }}"),
        std::string("{{ '%999999999d'|format(1) }}"),
        std::string("{% set s = 'a' * 9000000 %}{{ ('{0}' * 1000).format(s)|length }}"),
        doubled + "{{ ''.join(ns.x)|length }}"}) {
    EXPECT_THAT(usage_text([&] { render(source); }), HasSubstr("limit of 2000000 steps")) << source;
  }
  EXPECT_EQ(render("{{ '{:>5}|{}|{:.1f}|{{7}}'.format(1, 'b', 2.25) }}"), "    1|b|2.2|{7}");
  EXPECT_EQ(render("{{ ', '.join(['a', 'b', 3]) }}"), "a, b, 3");
}

using std::chrono::milliseconds;
using std::chrono::steady_clock;

// Megabytes are compared at a step each: all of the fuel would last for minutes.
constexpr const char* kSlow =
    "{% set x = 'a' * 4000000 %}{% set y = x ~ '' %}{% for i in range(90000) %}"
    "{% if x == y and x[-1] == 'a' %}{% endif %}{% endfor %}";

// The engine cannot be interrupted; whoever waits for it goes on.
TEST(ChatTemplate, IsGivenUpBeyondItsTime) {
  const TemplateLimits limits{.time = milliseconds(100)};
  std::optional<ChatTemplate> slow = ChatTemplate::from_source(kSlow, kTokens, limits);
  const ordered_json messages = ordered_json::array({{{"role", "user"}, {"content", "Hi"}}});
  const auto error = [&] { return usage_text([&] { slow->render(messages, {}); }); };
  const auto begin = steady_clock::now();
  for (int i = 0; i < 2; ++i)
    EXPECT_THAT(error(), AllOf(HasSubstr("limit of 0.1 s"), HasSubstr("--chat-template")));
  // A third one would take a processor, too.
  try {
    slow->render(messages, {});
    ADD_FAILURE();
  } catch (const TemplateBusy& e) {
    EXPECT_THAT(e.what(), AllOf(HasSubstr("2 chats still run"), HasSubstr("--chat-template")));
  }
  EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds(8));
  // Another template is free to run, and those that still run own what they use.
  EXPECT_EQ(render("x"), "x");
  slow.reset();
  EXPECT_EQ(render("y"), "y");
}

// What joins a list with itself costs a step; going through the list would cost the machine's
// memory.
TEST(ChatTemplate, IsGivenUpBeyondItsMemory) {
  TemplateLimits limits;
  limits.memory_bytes = size_t{4} << 20;
  const auto doubled = [](int times) {
    return "{% set ns = namespace(x=[1]) %}{% for i in range(" + std::to_string(times) +
           ") %}{% set ns.x = ns.x + ns.x %}{% endfor %}";
  };
  const auto begin = steady_clock::now();
  for (const std::string& source :
       {doubled(40) + "{{ ns.x|length }}", doubled(30) + "{{ (ns.x ~ '')|length }}"})
    EXPECT_THAT(usage_text([&] { render(source, {}, limits); }),
                AllOf(HasSubstr("limit of 4 MiB"), HasSubstr("--chat-template")))
        << source;
  EXPECT_LT(steady_clock::now() - begin, std::chrono::seconds(8));
  // The messages do not count, nor does what is free again.
  std::string long_text;
  long_text.resize(16'000'000, 'a');
  const ordered_json messages = {{{"role", "user"}, {"content", long_text}}};
  EXPECT_EQ(ChatTemplate::from_source("{{ messages[0].content|length }}{% for i in range(20) %}"
                                      "{% set s = 'b' * 1000000 %}{% endfor %}",
                                      {}, limits)
                .render(messages, {}),
            "16000000");
}

TEST(ChatTemplate, RefusesReservedKwargs) {
  for (const char* name : {"messages", "tools", "documents", "tokenize", "add_generation_prompt",
                           "continue_final_message", "chat_template", "conversation"}) {
    RenderOptions options;
    options.kwargs = {{name, false}};
    EXPECT_THAT(usage_text([&] { render("x", options); }), HasSubstr(name));
  }
  RenderOptions options;
  options.kwargs = ordered_json::array({1});
  usage_text([&] { render("x", options); });
}

TEST(ChatTemplate, TakesMessagesAsTheyAre) {
  const ChatTemplate t = ChatTemplate::from_source("{{ messages[0].content }}", {});
  const auto one = [](ordered_json content) {
    ordered_json message = {{"role", "user"}, {"content", std::move(content)}};
    return ordered_json::array({std::move(message)});
  };
  // What looks like a template in a message is only text.
  EXPECT_EQ(t.render(one("{{ 1 + 1 }}{% raw %}"), {}), "{{ 1 + 1 }}{% raw %}");
  EXPECT_EQ(t.render(one(std::string("a\0b", 3)), {}), std::string("a\0b", 3));
  EXPECT_THAT(usage_text([&] { t.render(one("\xff"), {}); }), HasSubstr("UTF-8"));
  usage_text([&] { t.render(ordered_json::array(), {}); });
  usage_text([&] { t.render("text", {}); });
  ordered_json deep = "x";
  for (int i = 0; i < 1000; ++i) deep = ordered_json::array({std::move(deep)});
  usage_text([&] { t.render(one(deep), {}); });
}

TEST(ChatTemplate, ContinuesTheFinalMessage) {
  RenderOptions options;
  options.continue_final_message = true;
  const ChatTemplate t = ChatTemplate::from_source(
      "{% for m in messages %}<{{ m.content | trim }}>{% endfor %}"
      "{% if add_generation_prompt %}A{% endif %}",
      {});
  const auto talk = [](const std::string& last) {
    ordered_json a = {{"role", "user"}, {"content", "q"}};
    ordered_json b = {{"role", "assistant"}, {"content", last}};
    return ordered_json::array({a, b});
  };
  EXPECT_EQ(t.render(talk(" yes \u3000\n"), options), "<q><yes");
  EXPECT_EQ(t.render(talk(""), options), "<q><");
  EXPECT_EQ(t.render(talk("CONTINUE_FINAL_MESSAGE_TAG "), options),
            "<q><CONTINUE_FINAL_MESSAGE_TAG");
  ordered_json none = talk("x");
  none[1].erase("content");
  EXPECT_THAT(usage_text([&] { t.render(none, options); }), HasSubstr("no text to continue"));
}

TEST(ChatTemplate, IsSharedBetweenThreads) {
  const ChatTemplate t = ChatTemplate::from_source("{{ messages[0].content }}{{ n }}", {});
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([copy = t, i] {
      RenderOptions options;
      options.kwargs = {{"n", i}};
      ordered_json message = {{"role", "user"}, {"content", "c"}};
      for (int n = 0; n < 100; ++n)
        EXPECT_EQ(copy.render(ordered_json::array({message}), options), "c" + std::to_string(i));
    });
  }
}

class ChatTemplateFolder : public ::testing::Test {
 protected:
  ChatTemplateFolder()
      : dir_(fs::path(::testing::TempDir()) /
             (std::string("octet_chat_template_test_") + std::to_string(::getpid()))) {
    fs::remove_all(dir_);
    fs::create_directories(dir_ / "additional_chat_templates");
  }
  ~ChatTemplateFolder() override { fs::remove_all(dir_); }
  std::string render(bool with_tools = false) const {
    RenderOptions options;
    if (with_tools) options.tools = ordered_json::array({ordered_json::object()});
    ordered_json message = {{"role", "user"}, {"content", "c"}};
    return ChatTemplate::load(dir_)->render(ordered_json::array({message}), options);
  }
  void config(const ordered_json& value) const {
    write_text(dir_ / "tokenizer_config.json", value.dump());
  }
  fs::path dir_;
};

TEST_F(ChatTemplateFolder, FindsTheTemplate) {
  EXPECT_FALSE(ChatTemplate::load(dir_).has_value());
  config({{"bos_token", "<b>"}, {"eos_token", {{"content", "<e>"}}}, {"pad_token", nullptr}});
  EXPECT_FALSE(ChatTemplate::load(dir_).has_value());
  config({{"bos_token", "<b>"},
          {"eos_token", {{"content", "<e>"}, {"special", true}}},
          {"chat_template", "{{ bos_token }}{{ eos_token }}{{ pad_token is defined }}"}});
  EXPECT_EQ(render(), "<b><e>False");
  ordered_json standard = {{"name", "default"}, {"template", "D"}};
  ordered_json tool_use = {{"name", "tool_use"}, {"template", "T"}};
  config({{"chat_template", ordered_json::array({standard, tool_use})}});
  EXPECT_EQ(render(), "D");
  EXPECT_EQ(render(true), "T");
  EXPECT_EQ(ChatTemplate::load(dir_)->source(), "D");
  write_text(dir_ / "chat_template.jinja", "J");
  EXPECT_EQ(render(true), "J");
  write_text(dir_ / "additional_chat_templates" / "tool_use.jinja", "X");
  EXPECT_EQ(render(), "J");
  EXPECT_EQ(render(true), "X");
}

TEST_F(ChatTemplateFolder, NamesTheFileThatIsBroken) {
  const std::string file = (dir_ / "tokenizer_config.json").string();
  for (const char* text : {"{", "[]", "{\"chat_template\": 1}", "{\"chat_template\": \"{% if %}\"}",
                           "{\"chat_template\": [{\"name\": \"default\"}]}",
                           "{\"chat_template\": \"x\", \"bos_token\": 3}"}) {
    write_text(file, text);
    try {
      (void)ChatTemplate::load(dir_);
      ADD_FAILURE() << text;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kFailure);
      EXPECT_THAT(e.what(), HasSubstr(file));
    }
  }
}

TEST_F(ChatTemplateFolder, ALinkToNothingIsNotAbsent) {
  for (const char* name : {"chat_template.jinja", "tokenizer_config.json",
                           "special_tokens_map.json", "additional_chat_templates/tool_use.jinja"}) {
    config({{"chat_template", "D"}});
    fs::remove(dir_ / name);
    fs::create_symlink("../../blobs/0a1b", dir_ / name);
    try {
      (void)ChatTemplate::load(dir_);
      ADD_FAILURE() << name;
    } catch (const Error& e) {
      EXPECT_THAT(e.what(), HasSubstr(name));
      EXPECT_THAT(e.what(), HasSubstr("blobs/0a1b"));
    }
    fs::remove(dir_ / name);
  }
}

// tools/tiny_models/expected.py: the chats of `transformers` as text and as ids.
TEST(ChatTemplate, RendersTheModelsChats) {
  for (const char* name : {"llama3_tiny_bf16", "qwen2_tiny_fp16", "qwen3_tiny_bf16"}) {
    SCOPED_TRACE(name);
    const fs::path model = fs::path(OCTET_SOURCE_DIR) / "models" / name;
    const std::string file = (model / "expected.json").string();
    const ordered_json expected = parse_ordered_json(read_text(file), file);
    const auto chat_template = ChatTemplate::load(model);
    ASSERT_TRUE(chat_template.has_value());
    const Tokenizer tokenizer = Tokenizer::load(model);
    ASSERT_GE(expected["chat"].size(), 5u);
    for (const ordered_json& chat : expected["chat"]) {
      RenderOptions options;
      if (chat.contains("tools")) options.tools = chat["tools"];
      if (chat.contains("chat_template_kwargs")) options.kwargs = chat["chat_template_kwargs"];
      const std::string text = chat_template->render(normalize_messages(chat["messages"]), options);
      EXPECT_EQ(text, chat["text"].get<std::string>());
      EXPECT_EQ(tokenizer.encode(text, false), chat["ids"].get<std::vector<int32_t>>());
    }
  }
}

// A template comes with a model from anywhere: what it does ends, in an error or not, and costs no
// more than its fuel.
TEST(ChatTemplate, WhatIsMadeToHarmItEnds) {
  const std::string nested =
      "{% set ns = namespace(x=[]) %}{% for a in range(2000) %}{% for b in range(2000) %}"
      "{% set ns.x = [ns.x] %}{% endfor %}{% endfor %}";
  const std::string deep =  // as deep as the fuel lets it, and then used
      "{% set ns = namespace(x=[]) %}{% for a in range(90000) %}{% set ns.x = [ns.x] %}{% endfor "
      "%}";
  for (const std::string& source :
       {nested, deep, deep + "{{ ns.x }}", deep + "{{ ns.x == [ns.x] }}", deep + "{{ ns.x ~ '' }}",
        deep + "{{ ns.x|tojson }}", deep + "{{ ns.x|string|length }}",
        std::string("{{ ('a ' * 30000000).split()|length }}"),
        std::string("{{ ('a' * 60000000).split('a')|length }}"),
        std::string("{{ ('a\\n' * 30000000).splitlines()|length }}"),
        std::string("{{ messages[0].content.split()|length }}"),
        std::string("{{ messages[0].content|list|length }}"),
        std::string("{{ messages[0].content.replace('a', messages[0].content)|length }}")}) {
    SCOPED_TRACE(source.substr(0, 200));
    const ordered_json messages = {
        {{"role", "user"}, {"content", std::string(1 << 22, 'a') + " b"}}};
    const auto chat_template = ChatTemplate::from_source(source, {});
    const auto start = std::chrono::steady_clock::now();
    try {
      chat_template.render(normalize_messages(messages), {});
    } catch (const Error&) {
    }
    EXPECT_LT(std::chrono::steady_clock::now() - start, std::chrono::seconds(10));
  }
}

}  // namespace
}  // namespace octet::text
