#include "src/cli/runtime.h"

#include <fmt/format.h>
#include <malloc.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <future>

#include "src/base/error.h"
#include "src/base/progress.h"
#include "src/cli/cli.h"
#include "src/engine/refusal.h"
#include "src/machine/topology.h"
#include "src/server/api/refusals.h"

namespace octet::cli {
namespace {

constexpr uint64_t kDefaultKvBytes = uint64_t{4} << 30;

// A rank's share of what the model takes: its tensors, and one byte a weight of a head that one
// rank screens.
uint64_t model_bytes(const RuntimeOptions& options, const ModelFolder& folder, size_t ranks) {
  const ModelConfig& c = folder.config();
  const bool screened = ranks == 1 && head_mode(options.head) == HeadMode::kScreened &&
                        !is_quantized(folder.scheme(kHead));
  return folder.tensors().total_bytes() / ranks +
         (screened ? static_cast<uint64_t>(c.vocab_size * c.hidden_size) : 0);
}

// Pages of this rank's KV cache: what was asked for, else half of the memory that the weights
// leave, within the default and what the running sequences can use at all.
size_t kv_blocks(const RuntimeOptions& options, const RankShape& shape, kernels::FloatType type,
                 uint64_t weights, size_t max_model_len) {
  const uint64_t page = KvCache::block_bytes(shape, type);
  const size_t one = blocks_for(max_model_len);
  uint64_t bytes = options.kv_bytes;
  if (bytes == 0) {
    const size_t sharers = options.ranks == nullptr ? 1 : options.ranks->on_host();
    const uint64_t limit = memory_limit_bytes() / sharers;
    bytes = std::min(kDefaultKvBytes, limit > weights ? (limit - weights) / 2 : 0);
  }
  const size_t blocks = std::min<size_t>(bytes / page, options.max_sequences * one);
  if (blocks < one)
    throw Error("the KV cache cannot hold one request of the full length")
        .field(options.kv_bytes == 0 ? "memory" : "--kv-cache-memory-bytes")
        .expected(fmt::format("{} for {} tokens", format_bytes(one * page), max_model_len))
        .found(format_bytes(bytes))
        .remedy(blocks == 0 ? "give it more memory"
                            : fmt::format("lower --max-model-len to {}", blocks * kBlockTokens));
  return blocks;
}

// The type of the KV pages; a wish that contradicts the checkpoint is an Error.
kernels::FloatType kv_type_of(const RuntimeOptions& options, const ModelFolder& folder) {
  using kernels::FloatType;
  const FloatType type = kv_type(folder, options.kv_type.value_or(FloatType::kBF16));
  if (options.kv_type && (*options.kv_type == FloatType::kI8) != folder.int8_kv())
    throw Error("the KV cache's type contradicts the checkpoint", ErrorKind::kUsage)
        .file(folder.path().string())
        .field("--kv-cache-dtype")
        .expected(folder.int8_kv() ? "auto or int8: the checkpoint has scales for int8 (C8)"
                                   : "a float type: the checkpoint has no scales for int8 (C8)");
  return type;
}

// The tokens that end a text, first the tokenizer's own, as vLLM takes them.
std::vector<int32_t> eos_of(const ModelConfig& config, const GenerationConfig& generation,
                            const text::Tokenizer& tokenizer, const std::string& tokenizer_folder) {
  std::vector<int64_t> all;
  const text::SpecialTokens special = text::load_special_tokens(tokenizer_folder);
  if (const auto it = special.find("eos_token"); it != special.end())
    if (const auto id = tokenizer.token_to_id(it->second); id && *id < config.vocab_size)
      all.push_back(*id);
  all.insert(all.end(), config.eos_token_ids.begin(), config.eos_token_ids.end());
  all.insert(all.end(), generation.eos_token_ids.begin(), generation.eos_token_ids.end());
  std::vector<int32_t> ids;
  for (int64_t id : all)
    if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(static_cast<int32_t>(id));
  return ids;
}

bool is_ready(const std::future<text::Tokenizer>& future) {
  return future.wait_for(std::chrono::seconds(0)) == std::future_status::ready;
}

}  // namespace

Runtime::Runtime(const RuntimeOptions& options)
    : folder_(std::make_shared<const ModelFolder>(options.model)) {
  if (options.ranks == nullptr || options.ranks->rank() == 0) warn_of(*folder_);
  const ModelConfig& config = folder_->config();
  const std::string tokenizer = options.tokenizer.empty() ? options.model : options.tokenizer;
  // Beside the weights: a tokenizer that is broken ends their loading after a layer.
  std::future<text::Tokenizer> loading =
      std::async(std::launch::async, [&] { return text::Tokenizer::load(tokenizer); });
  template_ = text::ChatTemplate::load(tokenizer);
  generation_ = GenerationConfig::load(options.model);
  const size_t longest = static_cast<size_t>(config.max_position);
  if (options.max_model_len > longest)
    throw Error("longer than the model was made for", ErrorKind::kUsage)
        .field("--max-model-len")
        .expected(fmt::format("at most {} (max_position_embeddings)", longest))
        .found(std::to_string(options.max_model_len));
  engine_options_.max_model_len = options.max_model_len == 0 ? longest : options.max_model_len;
  engine_options_.max_sequences = options.max_sequences;
  engine_options_.max_batched_tokens = options.max_batched_tokens;
  engine_options_.max_queue = options.max_queue;
  engine_options_.kv_type = kv_type_of(options, *folder_);
  const size_t ranks = options.ranks == nullptr ? 1 : options.ranks->size();
  const RankShape shape(config, make_shard(config, ranks == 1 ? 0 : options.ranks->rank(), ranks));
  engine_options_.kv_blocks =
      kv_blocks(options, shape, engine_options_.kv_type, model_bytes(options, *folder_, ranks),
                engine_options_.max_model_len);
  engine_options_.on_lost_rank = options.on_lost_rank;
  team_ = std::make_unique<ThreadTeam>();
  const auto take_tokenizer = [&] {
    if (tokenizer_ == nullptr) tokenizer_ = std::make_unique<text::Tokenizer>(loading.get());
  };
  const auto on_layer = [&] {
    if (tokenizer_ == nullptr && is_ready(loading)) take_tokenizer();
  };
  model_ = std::make_unique<Transformer>(folder_, *team_,
                                         LoadOptions{.max_rows = options.max_batched_tokens,
                                                     .ranks = options.ranks,
                                                     .head = head_mode(options.head),
                                                     .on_layer = on_layer});
  take_tokenizer();
  ::malloc_trim(0);  // what parsing the tokenizer and packing the weights took
  engine_options_.eos_ids = eos_of(config, generation_, *tokenizer_, tokenizer);
  if (options.ranks == nullptr) return;
  options.ranks->meet();
  // A page number stands for the same tokens on all ranks; the one with least memory decides.
  float fewest = -static_cast<float>(engine_options_.kv_blocks);
  options.ranks->maximum({&fewest, 1});
  options.ranks->throw_failure();
  engine_options_.kv_blocks = static_cast<size_t>(-fewest);
}

void Runtime::follow() {
  KvCache cache(model_->shape(), engine_options_.kv_blocks, engine_options_.kv_type);
  model_->follow(cache);
}

std::unique_ptr<Engine> Runtime::start(EngineObserver* observer) {
  return std::make_unique<Engine>(*model_, tokenizer_.get(), engine_options_, observer);
}

void add_head_flag(const Verb& verb, std::string& head) {
  verb.text("--head", head,
            "screened: greedy and top-k sampling find their tokens with a small int8 copy of a "
            "float output head; the same tokens, half a head more memory; several ranks compute "
            "exact")
      .one_of({"exact", "screened"})
      .show_default();
}

HeadMode head_mode(const std::string& head) {
  return head == "exact" ? HeadMode::kExact : HeadMode::kScreened;
}

void OutputQueue::on_output(RequestOutput output) {
  {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(output));
  }
  ready_.notify_one();
}

RequestOutput OutputQueue::next() {
  std::unique_lock lock(mutex_);
  ready_.wait(lock, [&] { return !queue_.empty(); });
  RequestOutput output = std::move(queue_.front());
  queue_.pop_front();
  return output;
}

void add_sampling(const Verb& verb, SamplingFlags& f) {
  verb.integer("--max-tokens", f.max_tokens, "tokens to generate at most")
      .range(size_t{1}, size_t{1} << 30)
      .show_default();
  verb.number("--temperature", f.temperature, "0 = always the likeliest token").range(0.0, 100.0);
  verb.number("--top-p", f.top_p, "sample from the likeliest tokens that sum to this")
      .range(1e-6, 1.0);
  verb.integer("--top-k", f.top_k, "sample from this many tokens; 0 = all").range(-1, 1 << 24);
  verb.number("--min-p", f.min_p, "leave out tokens below this share of the likeliest")
      .range(0.0, 1.0);
  verb.number("--repetition-penalty", f.repetition_penalty, "above 1: repeat less")
      .range(0.01, 100.0);
  verb.integer("--seed", f.seed, "the same seed gives the same text");
  verb.list("--stop", f.stop, "end at this text; may be repeated");
  verb.toggle("--ignore-eos", f.ignore_eos, "go on after the end token");
}

SamplingParams sampling_of(const SamplingFlags& f, const GenerationConfig& d) {
  SamplingParams p;
  p.temperature = f.temperature.value_or(d.temperature.value_or(1));
  p.top_p = f.top_p.value_or(d.top_p.value_or(1));
  p.min_p = f.min_p.value_or(d.min_p.value_or(0));
  p.top_k = f.top_k.value_or(d.top_k.value_or(0));
  p.repetition_penalty = f.repetition_penalty.value_or(d.repetition_penalty.value_or(1));
  p.seed = f.seed;
  p.stop = f.stop;
  p.max_tokens = f.max_tokens;
  p.ignore_eos = f.ignore_eos;
  return p;
}

std::string print_answer(Engine& engine, std::vector<int32_t> prompt,
                         const SamplingParams& params) {
  const auto queue = std::make_shared<OutputQueue>();
  try {
    if (!engine.submit({std::move(prompt), params, queue, /*prompt_is_text=*/true}))
      throw Error("the engine is busy");
  } catch (const RequestError& e) {
    throw server::error_of(e.why());
  }
  std::string text;
  for (;;) {
    const RequestOutput output = queue->next();
    fmt::print("{}", output.text);
    expect_written();
    text += output.text;
    if (!output.finish) continue;
    if (*output.finish == FinishReason::kError) throw Error(output.error);
    return text;
  }
}

}  // namespace octet::cli
