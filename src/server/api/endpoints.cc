#include "src/server/api/endpoints.h"

#include <fmt/format.h>

#include <ctime>

#include "src/server/api/answer.h"
#include "src/server/api/protocol.h"
#include "src/server/http/body.h"
#include "src/server/http/errors.h"

namespace octet::server {
namespace {

ordered_json card(const Context& context, const std::string& name) {
  const auto now = static_cast<int64_t>(std::time(nullptr));
  ordered_json permission = {{"id", "modelperm-" + random_id()},
                             {"object", "model_permission"},
                             {"created", now},
                             {"allow_create_engine", false},
                             {"allow_sampling", true},
                             {"allow_logprobs", true},
                             {"allow_search_indices", false},
                             {"allow_view", true},
                             {"allow_fine_tuning", false},
                             {"organization", "*"},
                             {"group", nullptr},
                             {"is_blocking", false}};
  return {{"id", name},
          {"object", "model"},
          {"created", now},
          {"owned_by", "vllm"},
          {"root", context.options.model_path},
          {"parent", nullptr},
          {"max_model_len", context.engine.options().max_model_len},
          {"permission", ordered_json::array({std::move(permission)})}};
}

}  // namespace

ordered_json model_list(const Context& context) {
  ordered_json data = ordered_json::array();
  for (const std::string& name : context.options.served_model_names)
    data.push_back(card(context, name));
  return {{"object", "list"}, {"data", std::move(data)}};
}

ordered_json model_card(const Context& context, const std::string& name) {
  const ordered_json request = {{"model", name}};
  check_model(Fields(request), context.options);
  return card(context, name);
}

ordered_json tokenize(const Context& context, const ordered_json& body,
                      const std::function<void()>& go_on) {
  const Fields f(body);
  check_model(f, context.options);
  const PromptMaker maker = context.prompts();
  std::vector<int32_t> tokens;
  if (f.find("messages") != nullptr) {
    ChatInput chat = parse_chat_input(f);
    if (const ordered_json* tools = f.array("tools")) chat.render.tools = *tools;
    tokens = maker.encode(maker.render(chat), f.boolean("add_special_tokens", false), go_on);
  } else {
    const auto prompt = f.string("prompt");
    if (!prompt) throw bad_shape("prompt", "a string (or messages)", nullptr);
    tokens = maker.encode(*prompt, f.boolean("add_special_tokens", true), go_on);
  }
  ordered_json spelled;
  if (f.boolean("return_token_strs", false)) {
    spelled = ordered_json::array();
    for (int32_t id : tokens) spelled.push_back(context.tokenizer.id_to_token(id));
  }
  return {{"count", tokens.size()},
          {"max_model_len", context.engine.options().max_model_len},
          {"tokens", tokens},
          {"token_strs", std::move(spelled)}};
}

ordered_json detokenize(const Context& context, const ordered_json& body,
                        const std::function<void()>&) {
  const Fields f(body);
  check_model(f, context.options);
  if (f.find("tokens") == nullptr) throw bad_shape("tokens", "an array of token ids", nullptr);
  const std::vector<int32_t> tokens = f.token_ids("tokens");
  for (int32_t id : tokens)
    if (!context.tokenizer.has_token(id))
      throw bad_request(fmt::format("token id {} is out of vocabulary", id), "tokens");
  return {{"prompt", context.tokenizer.decode(tokens, false)}};
}

}  // namespace octet::server
