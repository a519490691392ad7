// The whole model: embedding, layers, final norm, head, on a paged KV cache.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "src/checkpoint/model_folder.h"
#include "src/dist/communicator.h"
#include "src/model/head.h"
#include "src/model/kv_cache.h"
#include "src/model/layer.h"
#include "src/model/reduced_linear.h"
#include "src/model/rope.h"

namespace octet {

// What one step computes: the new tokens of some sequences, and the rows whose logits are wanted.
struct Batch {
  std::vector<int32_t> tokens;        // all chunks one after another
  std::vector<SequenceChunk> chunks;  // cover tokens in order
  std::vector<size_t> logit_rows;     // rows of the batch, ascending
  // Of each logit row, whether only its largest logits are wanted; empty: of none.
  std::vector<bool> largest;

  // Appends a chunk whose last `generated` tokens the model generated; returns its first row.
  size_t add(std::span<const int32_t> ids, size_t position, const int32_t* blocks,
             size_t generated = 0);
};

struct LoadOptions {
  size_t max_rows;                // the most tokens of one step
  Communicator* ranks = nullptr;  // null: the only one; must outlive the model
  size_t number = 0;              // tells the models apart that the ranks share
  HeadMode head = HeadMode::kExact;
  std::function<void()> on_layer{};  // called after every layer; what it throws ends the loading
};

class Transformer {
 public:
  // Loads and packs every weight, or this rank's share of every weight. Throws Error for tensors
  // that are missing or wrong.
  Transformer(std::shared_ptr<const ModelFolder> folder, ThreadTeam& team,
              const LoadOptions& options);

  const ModelFolder& folder() const { return *folder_; }
  const ModelConfig& config() const { return folder_->config(); }
  const RankShape& shape() const { return shape_; }  // of this rank's share
  size_t ranks() const { return ranks_.size(); }
  ThreadTeam& team() { return team_; }
  size_t max_rows() const { return buffers_.rows; }
  uint64_t weight_bytes() const;  // read once per decode step

  // Puts wrap(layer, part, linear) in place of every linear of the layers: a TapLinear, to watch
  // what goes through it.
  using Wrap =
      std::function<std::unique_ptr<Linear>(size_t layer, LayerPart part, std::unique_ptr<Linear>)>;
  void wrap_linears(const Wrap& wrap);

  // Runs the batch; the KV pages of its chunks are filled. The cache is of kv_type(folder()).
  // Returns logits [logit_rows.size(), vocab], the caller's until the next call; of the rows that
  // screened() knows, upper bounds of the logits. With several ranks it is called on rank 0, and
  // throws RankError when another does not answer.
  std::span<float> forward(const Batch& batch, KvCache& cache);
  // The exact logits of row i of what forward() has returned, or nothing if it holds them.
  std::optional<ExactLogits> screened(size_t i) const { return head_.screened(i); }
  // On the other ranks: takes part in every forward() of rank 0 until that says release(), of any
  // of these models, numbered in this order. Throws RankError.
  struct Followed {
    Transformer* model;
    KvCache* cache;
  };
  static void follow(Communicator& ranks, const std::vector<Followed>& models);
  void follow(KvCache& cache) { follow(ranks_, {{this, &cache}}); }
  void release();
  // Whether the other ranks answer, without a step. Throws RankError.
  void ping();

 private:
  void load_embedding();
  void embed(Worker& w, const Batch& batch);
  std::span<float> compute(const Batch& batch, KvCache& cache);
  void gather_logits(size_t rows);

  std::shared_ptr<const ModelFolder> folder_;
  ThreadTeam& team_;
  std::unique_ptr<Communicator> alone_;
  Communicator& ranks_;
  size_t number_;
  Shard shard_;
  RankShape shape_;
  Rope rope_;
  // This rank's rows of the table [vocab, hidden], as they are stored, but not in the mapped file:
  // what happens to that while a server runs must change nothing. Empty where the head has them.
  DType embedding_type_;
  Buffer<std::byte> embedding_;
  ReduceBuffer reduce_;
  std::vector<DecoderLayer> layers_;
  Norm final_norm_;
  Head head_;
  StepBuffers buffers_;
  StageBuffer head_stage_;               // the scratch of buffers_, for the rows that the head sees
  Buffer<float> logits_;                 // [rows, vocab] on rank 0
  Buffer<float> own_logits_, gathered_;  // this rank's, and all ranks' one after the other
};

}  // namespace octet
