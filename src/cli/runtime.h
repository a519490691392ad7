// A model folder loaded and ready to generate: what serve, chat, generate and bench share.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "src/cli/flags.h"
#include "src/engine/engine.h"
#include "src/text/chat_template.h"

namespace octet::cli {

struct RuntimeOptions {
  std::string model;
  std::string tokenizer;     // folder; "" = the model's
  size_t max_model_len = 0;  // 0 = from config.json
  size_t max_sequences = 128;
  size_t max_batched_tokens = 512;
  size_t max_queue = 4096;
  uint64_t kv_bytes = 0;                      // 0 = what memory allows, at most 4 GiB
  std::optional<kernels::FloatType> kv_type;  // nothing = the checkpoint's, else bfloat16
  std::string head = "screened";              // or exact
  Communicator* ranks = nullptr;              // that share the model; null = the only one
  std::function<void(const std::string&)> on_lost_rank;  // as in EngineOptions
};

class Runtime {
 public:
  // Loads everything. Throws Error, also when the memory cannot hold one request's KV pages.
  explicit Runtime(const RuntimeOptions& options);

  const ModelFolder& folder() const { return *folder_; }
  Transformer& model() { return *model_; }
  const text::Tokenizer& tokenizer() const { return *tokenizer_; }
  const std::optional<text::ChatTemplate>& chat_template() const { return template_; }
  const GenerationConfig& generation() const { return generation_; }
  const EngineOptions& engine_options() const { return engine_options_; }
  std::unique_ptr<Engine> start(EngineObserver* observer = nullptr);
  // On all ranks but the first: works for rank 0 until that ends. Throws RankError.
  void follow();

 private:
  std::shared_ptr<const ModelFolder> folder_;
  std::unique_ptr<ThreadTeam> team_;
  std::unique_ptr<Transformer> model_;
  std::unique_ptr<text::Tokenizer> tokenizer_;
  std::optional<text::ChatTemplate> template_;
  GenerationConfig generation_;
  EngineOptions engine_options_;
};

// --head, and what its word means.
void add_head_flag(const Verb& verb, std::string& head);
HeadMode head_mode(const std::string& head);

// Outputs of one request, handed from the engine's thread to the caller's.
class OutputQueue final : public OutputSink {
 public:
  void on_output(RequestOutput output) override;
  RequestOutput next();  // waits

 private:
  std::mutex mutex_;
  std::condition_variable ready_;
  std::deque<RequestOutput> queue_;
};

// Sampling options of the verbs that generate in the terminal.
struct SamplingFlags {
  std::optional<double> temperature, top_p, min_p, repetition_penalty;
  std::optional<int64_t> top_k, seed;
  std::vector<std::string> stop;
  size_t max_tokens = 512;
  bool ignore_eos = false;
};
void add_sampling(const Verb& verb, SamplingFlags& flags);
// The flags over the model's generation_config.json.
SamplingParams sampling_of(const SamplingFlags& flags, const GenerationConfig& defaults);

// Runs one request and prints its text to stdout as it comes. Returns the text.
std::string print_answer(Engine& engine, std::vector<int32_t> prompt, const SamplingParams& params);

}  // namespace octet::cli
