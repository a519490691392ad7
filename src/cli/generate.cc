// `octet generate`: one prompt, its continuation on stdout.
#include <fmt/format.h>

#include <iostream>
#include <iterator>
#include <memory>

#include "src/base/error.h"
#include "src/cli/runtime.h"

namespace octet::cli {
namespace {

struct GenerateFlags {
  RuntimeOptions runtime;
  SamplingFlags sampling;
  std::string prompt;
  bool chat = false;
};

void generate(GenerateFlags& f) {
  if (f.prompt == "-")
    f.prompt.assign(std::istreambuf_iterator<char>(std::cin), std::istreambuf_iterator<char>());
  if (f.prompt.empty()) throw usage_error("--prompt is empty");
  Runtime runtime(f.runtime);
  std::string text = f.prompt;
  if (f.chat) {
    if (!runtime.chat_template())
      throw usage_error("this model has no chat template; leave --chat out");
    const ordered_json message = {{"role", "user"}, {"content", f.prompt}};
    text = runtime.chat_template()->render(ordered_json::array({message}), {});
  }
  std::vector<int32_t> ids = runtime.tokenizer().encode(text, /*add_special_tokens=*/!f.chat);
  const size_t room = runtime.engine_options().max_model_len;
  if (ids.size() < room) f.sampling.max_tokens = std::min(f.sampling.max_tokens, room - ids.size());
  const auto engine = runtime.start();
  print_answer(*engine, std::move(ids), sampling_of(f.sampling, runtime.generation()));
  fmt::print("\n");
}

}  // namespace

void add_generate(Verb program) {
  const Verb verb = program.verb("generate", "continues one prompt");
  auto f = std::make_shared<GenerateFlags>();
  f->sampling.max_tokens = 128;
  f->runtime.max_sequences = 1;
  verb.text("model,--model", f->runtime.model, "the model folder").required();
  verb.text("--prompt,-p", f->prompt, "the text to continue; - reads it from stdin").required();
  verb.toggle("--chat", f->chat, "put the prompt into the model's chat template");
  verb.integer("--max-model-len", f->runtime.max_model_len, "prompt and output together");
  add_head_flag(verb, f->runtime.head);
  add_sampling(verb, f->sampling);
  verb.run([f] { generate(*f); });
}

}  // namespace octet::cli
