// The output head, from hidden states to logits: in floats, exact or screened, or quantized.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "src/checkpoint/model_folder.h"
#include "src/dist/shard.h"
#include "src/model/float_linear.h"
#include "src/model/head_screen.h"

namespace octet {

// How rows are computed of which only the largest logits are wanted: like all, or by upper bounds
// from a small int8 copy of the head, of which the caller has those computed that can still win.
enum class HeadMode { kExact, kScreened };

// The exact logits of a row of which the head has given upper bounds. Outputs are computed in
// groups of neighbours. The logits are those of the whole head, bit for bit.
class ExactLogits {
 public:
  ExactLogits(const FloatLinear& head, const float* x) : head_(&head), x_(x) {}
  static size_t group_size() { return FloatLinear::group_size(); }
  // Those of outputs [g * group_size(), (g + 1) * group_size()) to y; zeros beyond the last output.
  void compute(size_t g, float* y) const { head_->compute_group(x_, g, y); }

 private:
  const FloatLinear* head_;
  const float* x_;
};

class Head {
 public:
  // The shard of lm_head, tied or not. Throws Error for a tensor that is missing or wrong. A head
  // that is quantized, or whose weights are not finite, is not screened.
  Head(const ModelFolder& folder, const Shard& shard, HeadMode mode, ThreadTeam& team);

  uint64_t bytes() const;  // weights read by a step

  // Of a tied head in floats: the table of embeddings.
  bool has_embedding() const { return has_embedding_; }
  void embedding(size_t row, float* x) const { float_->weight_row(row, x); }

  // A step of `rows` rows; `largest` as in Batch.
  void begin_step(const std::vector<bool>& largest, size_t rows);
  // SPMD. `in` [rows, hidden] must stay until the last use of screened().
  void stage(Worker& w, const Rows& in, StageBuffer& buffer);
  // SPMD, a barrier after stage(). Logits, or upper bounds of them for the rows that screened()
  // knows, to out.
  void compute(Worker& w, const Rows& in, const Output& out, StageBuffer& buffer);
  // After a step: nothing for a row whose logits are computed.
  std::optional<ExactLogits> screened(size_t row) const;

 private:
  bool is_screened(size_t row) const {
    return !screened_.empty() && screened_[row] && screen_->bounded(row);
  }

  std::unique_ptr<Linear> linear_;
  const FloatLinear* float_ = nullptr;  // linear_, if it is one
  bool has_embedding_ = false;
  std::unique_ptr<HeadScreen> screen_;
  std::vector<bool> screened_;  // of the step's rows: wanted so; empty: none
  Rows in_{};                   // of the step
};

}  // namespace octet
