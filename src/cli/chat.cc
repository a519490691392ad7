// `octet chat`: a conversation in the terminal.
#include <fmt/format.h>
#include <unistd.h>

#include <iostream>
#include <memory>

#include "src/base/error.h"
#include "src/base/say.h"
#include "src/cli/cli.h"
#include "src/cli/runtime.h"

namespace octet::cli {
namespace {

struct ChatFlags {
  RuntimeOptions runtime;
  SamplingFlags sampling;
  std::string system;
};

ordered_json opening(const std::string& system) {
  ordered_json messages = ordered_json::array();
  if (!system.empty()) messages.push_back({{"role", "system"}, {"content", system}});
  return messages;
}

void chat(const ChatFlags& f) {
  Runtime runtime(f.runtime);
  if (!runtime.chat_template())
    throw usage_error("this model has no chat template; use `octet generate`");
  const bool terminal = ::isatty(STDIN_FILENO) == 1;
  if (terminal)
    fmt::print("{}  (/reset begins anew, /exit or Ctrl-D ends)\n",
               runtime.folder().path().string());
  const auto engine = runtime.start();
  ordered_json messages = opening(f.system);
  std::string line;
  for (;;) {
    if (terminal) {
      fmt::print("\n> ");
      std::fflush(stdout);
    }
    if (!std::getline(std::cin, line) || line == "/exit") break;
    if (line == "/reset") {
      messages = opening(f.system);
      continue;
    }
    if (line.empty()) continue;
    messages.push_back({{"role", "user"}, {"content", line}});
    std::vector<int32_t> ids;
    try {
      const std::string prompt = runtime.chat_template()->render(messages, {});
      ids = runtime.tokenizer().encode(prompt, /*add_special_tokens=*/false);
    } catch (const Error& e) {  // not UTF-8, or refused by the template: the talk goes on without
      say(fmt::format("octet: error: {}\n", e.what()));
      messages.erase(messages.size() - 1);
      continue;
    }
    const size_t room = runtime.engine_options().max_model_len;
    SamplingParams params = sampling_of(f.sampling, runtime.generation());
    if (ids.size() >= room) {
      notice(fmt::format("the conversation has {} tokens, the model takes {}; beginning anew",
                         ids.size(), room));
      messages = opening(f.system);
      continue;
    }
    params.max_tokens = std::min(params.max_tokens, room - ids.size());
    const std::string answer = print_answer(*engine, std::move(ids), params);
    fmt::print("\n");
    messages.push_back({{"role", "assistant"}, {"content", answer}});
  }
  if (terminal) fmt::print("\n");
}

}  // namespace

void add_chat(Verb program) {
  const Verb verb = program.verb("chat", "a conversation in the terminal");
  auto f = std::make_shared<ChatFlags>();
  f->runtime.max_sequences = 1;
  verb.text("model,--model", f->runtime.model, "the model folder").required();
  verb.text("--system", f->system, "the system message");
  verb.integer("--max-model-len", f->runtime.max_model_len, "the longest conversation, tokens");
  add_head_flag(verb, f->runtime.head);
  add_sampling(verb, f->sampling);
  verb.run([f] { chat(*f); });
}

}  // namespace octet::cli
