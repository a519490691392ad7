// `octet serve`: the OpenAI API, in place of `python -m vllm.entrypoints.openai.api_server`.
#include <fmt/format.h>

#include <cstdio>
#include <memory>

#include "src/base/error.h"
#include "src/base/progress.h"
#include "src/cli/serve_flags.h"
#include "src/machine/cpu.h"

namespace octet::cli {
namespace {

// A file's text, or the argument itself when it is a template.
std::optional<text::ChatTemplate> chat_template_of(const ServeFlags& f, const Runtime& runtime) {
  if (f.chat_template.empty()) return runtime.chat_template();
  const bool inline_text = f.chat_template.find('{') != std::string::npos;
  const std::string source = inline_text ? f.chat_template : read_text(f.chat_template);
  return text::ChatTemplate::from_source(source, text::load_special_tokens(
      f.runtime.tokenizer.empty() ? f.runtime.model : f.runtime.tokenizer));
}

void run(ServeFlags& f) {
  resolve(f);
  Runtime runtime(f.runtime);
  const EngineOptions& engine_options = runtime.engine_options();
  const uint64_t kv = engine_options.kv_blocks *
                      KvCache::block_bytes(runtime.folder().config(), engine_options.kv_type);
  fmt::print("{} {} of weights, KV cache {} ({} tokens), up to {} tokens a request; {} threads, {}\n",
             runtime.folder().quantized() ? "W8A8," : "float,",
             format_bytes(runtime.folder().tensors().total_bytes()), format_bytes(kv),
             engine_options.kv_blocks * kBlockTokens, engine_options.max_model_len,
             runtime.model().team().size(), isa_name(selected_isa()));
  const std::optional<text::ChatTemplate> chat = chat_template_of(f, runtime);
  server::Metrics metrics(f.server.served_model_names[0], engine_options);
  const auto engine = runtime.start(&metrics);
  server::Server server(*engine, runtime.tokenizer(), chat ? &*chat : nullptr, metrics, f.server);
  fmt::print("Octet is ready at {}\n", server.url());
  std::fflush(stdout);
  server.run();
}

}  // namespace

void add_serve(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("serve", "serves a model over the OpenAI API");
  auto f = std::make_shared<ServeFlags>();
  add_serve_flags(sub, *f);
  sub->callback([f] { run(*f); });
}

}  // namespace octet::cli
