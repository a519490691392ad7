// A linear layer y = x W^T (+ bias) behind one interface; the classes by storage scheme are in
// float_linear.h, int8_linear.h and mix_linear.h, and make_linear.h chooses among them.
//
// All methods marked SPMD are called by every worker of a running ThreadTeam. A layer's input is
// prepared by stage() on the rows that w.share(m) gives the worker, so that a caller can produce
// those rows (norm, SiLU) and stage them with no barrier between. After stage() the caller puts a
// barrier, then compute(), then a barrier before the output is read.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "src/machine/memory.h"
#include "src/machine/thread_team.h"

namespace octet {

// The input of a linear: x [m, ld], of which it reads the first k columns.
struct Rows {
  const float* x;
  size_t ld;
  size_t m;
};

// Where its output goes: the first n columns of y [m, ld].
struct Output {
  float* y;
  size_t ld;
  bool accumulate = false;  // y += instead of y =
};

// Rows [begin, end) of a step that are all tokens of prompts, or all tokens that the model
// generated.
struct RowRun {
  size_t begin, end;
  bool generated;
};

// Scratch for quantized activations, shared by the layers of a model (they run one after another).
// A copy uses the same scratch, with runs of its own.
class StageBuffer {
 public:
  // Room for `rows` rows of up to `max_k` inputs in `slots` independent slots.
  StageBuffer(size_t rows, size_t max_k, size_t slots);
  // Elements from one row of k quantized activations to the next, and where row r of a slot begins.
  static size_t stride(size_t k);
  uint8_t* row(size_t slot, size_t r, size_t k);
  float* row_scales(size_t i) { return scales_->data() + i * rows_; }  // [rows] of slot i
  // The step's rows in order; W8A8_MIX computes the two kinds differently, others do not look.
  void set_runs(std::vector<RowRun> runs) { runs_ = std::move(runs); }
  const std::vector<RowRun>& runs() const { return runs_; }

 private:
  size_t rows_, slot_bytes_;
  std::shared_ptr<Buffer<uint8_t>> data_;
  std::shared_ptr<Buffer<float>> scales_;
  std::vector<RowRun> runs_;
};

// The integers that a product is before it becomes numbers. Ranks that have some columns of a
// weight each add them up exactly (reduced_linear.h).
class IntegerSums {
 public:
  // Whether rows have a scale each. They are then staged by stage_within(), not by stage().
  virtual bool needs_row_maximum() const = 0;
  // SPMD. stage() by the largest magnitudes maximum [m] that the ranks' shares of the rows hold.
  virtual void stage_within(Worker& w, const Rows& in, const float* maximum, StageBuffer& buffer,
                            size_t slot) = 0;
  // SPMD. sums [m, n] of the staged rows.
  virtual void compute_sums(Worker& w, size_t m, int32_t* sums, StageBuffer& buffer,
                            size_t slot) = 0;
  // SPMD. The rows w.share(m) of the output that sums [m, n] stand for.
  virtual void finish(Worker& w, size_t m, const int32_t* sums, const Output& out,
                      StageBuffer& buffer, size_t slot) = 0;

 protected:
  ~IntegerSums() = default;
};

class Linear {
 public:
  virtual ~Linear() = default;
  virtual size_t outputs() const = 0;  // n
  virtual size_t inputs() const = 0;   // k
  virtual uint64_t bytes() const = 0;  // weights read by one pass
  // SPMD. Only rows w.share(in.m) of the input are read.
  virtual void stage(Worker& w, const Rows& in, StageBuffer& buffer, size_t slot) = 0;
  // SPMD. out = (or +=) x W^T + bias.
  virtual void compute(Worker& w, const Rows& in, const Output& out, StageBuffer& buffer,
                       size_t slot) = 0;
  // Nothing where products are floats from the start.
  virtual IntegerSums* integer_sums() { return nullptr; }
};

}  // namespace octet
