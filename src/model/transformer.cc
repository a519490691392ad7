#include "src/model/transformer.h"

#include <algorithm>

#include "src/base/checked.h"
#include "src/model/weights.h"

namespace octet {
namespace {

void append(std::vector<RowRun>& runs, size_t rows, bool generated) {
  const size_t begin = runs.empty() ? 0 : runs.back().end;
  if (rows == 0) return;
  if (!runs.empty() && runs.back().generated == generated)
    runs.back().end += rows;
  else
    runs.push_back({begin, begin + rows, generated});
}

std::vector<RowRun> runs_of_rows(const Batch& batch) {
  std::vector<RowRun> runs;
  for (const SequenceChunk& s : batch.chunks) {
    append(runs, s.tokens - s.generated, false);
    append(runs, s.generated, true);
  }
  return runs;
}

// The same of the logit rows, moved together. `runs`: of all rows.
std::vector<RowRun> runs_of_logits(const Batch& batch, const std::vector<RowRun>& runs) {
  std::vector<RowRun> out;
  size_t run = 0;
  for (size_t row : batch.logit_rows) {
    while (row >= runs[run].end) ++run;
    append(out, 1, runs[run].generated);
  }
  return out;
}

}  // namespace

size_t Batch::add(std::span<const int32_t> ids, size_t position, const int32_t* blocks,
                  size_t generated) {
  OCTET_CHECK(generated <= ids.size());
  const size_t row = tokens.size();
  chunks.push_back({row, ids.size(), position, blocks, generated});
  tokens.insert(tokens.end(), ids.begin(), ids.end());
  return row;
}

Transformer::Transformer(std::shared_ptr<const ModelFolder> folder, ThreadTeam& team,
                         size_t max_rows)
    : folder_(std::move(folder)),
      team_(team),
      rope_(folder_->config()),
      embedding_(&folder_->tensors().get("model.embed_tokens.weight")),
      final_norm_(load_norm(*folder_, "model.norm")),
      buffers_(folder_->config(), max_rows),
      head_stage_(buffers_.stage) {
  const ModelConfig& c = config();
  embedding_->expect_shape(
      {static_cast<uint64_t>(c.vocab_size), static_cast<uint64_t>(c.hidden_size)});
  float_type(embedding_->dtype);  // throws for other types
  for (int64_t l = 0; l < c.layers; ++l) layers_.push_back(load_layer(*folder_, l, team));
  head_ = load_head(*folder_, team);
}

uint64_t Transformer::weight_bytes() const {
  uint64_t bytes = head_->bytes();
  for (const DecoderLayer& l : layers_) bytes += l.bytes();
  return bytes;
}

void Transformer::wrap_linears(const Wrap& wrap) {
  for (size_t l = 0; l < layers_.size(); ++l) {
    DecoderLayer& layer = layers_[l];
    layer.qkv = wrap(l, Part::kQkv, std::move(layer.qkv));
    layer.o = wrap(l, Part::kO, std::move(layer.o));
    layer.gate_up = wrap(l, Part::kGateUp, std::move(layer.gate_up));
    layer.down = wrap(l, Part::kDown, std::move(layer.down));
  }
}

void Transformer::embed(Worker& w, const Batch& batch) {
  const size_t hidden = as_size(config().hidden_size), half = rope_.half();
  const size_t row_bytes = hidden * dtype_size(embedding_->dtype);
  const auto [begin, end] = w.share(batch.tokens.size());
  TensorView row = *embedding_;
  for (size_t r = begin; r < end; ++r) {
    const size_t token = as_size(batch.tokens[r]);
    row.data = embedding_->data.subspan(token * row_bytes, row_bytes);
    row.to_floats(buffers_.x.data() + r * hidden);
  }
  for (const SequenceChunk& s : batch.chunks)
    for (size_t r = std::max(begin, s.first_row); r < std::min(end, s.first_row + s.tokens); ++r)
      rope_.angles(s.position + r - s.first_row, buffers_.cos.data() + r * half,
                   buffers_.sin.data() + r * half);
}

std::span<const float> Transformer::forward(const Batch& batch, KvCache& cache) {
  const ModelConfig& c = config();
  const size_t m = batch.tokens.size(), outputs = batch.logit_rows.size();
  const size_t hidden = as_size(c.hidden_size), vocab = as_size(c.vocab_size);
  OCTET_CHECK(m > 0 && m <= buffers_.rows && outputs <= m);
  for (int32_t t : batch.tokens) OCTET_CHECK(t >= 0 && t < c.vocab_size);
  logits_.ensure(outputs * vocab);
  buffers_.stage.set_runs(runs_of_rows(batch));
  head_stage_.set_runs(runs_of_logits(batch, buffers_.stage.runs()));
  team_.run([&](Worker& w) {
    embed(w, batch);
    w.barrier();
    for (size_t l = 0; l < layers_.size(); ++l)
      layers_[l].forward(w, c, batch.chunks, m,
                         {cache.k_pool(l), cache.v_pool(l), cache.page_elements(), cache.type()},
                         buffers_);
    // The wanted rows are moved together in h, so that the head sees [outputs, hidden].
    const auto [begin, end] = w.share(outputs);
    float* h = buffers_.h.data();
    for (size_t i = begin; i < end; ++i)
      final_norm_.rows(buffers_.x.data() + batch.logit_rows[i] * hidden, 0, 1, h + i * hidden);
    head_->stage(w, h, hidden, outputs, head_stage_, 0);
    w.barrier();
    if (outputs > 0)
      head_->compute(w, h, hidden, outputs, logits_.data(), vocab, false, head_stage_, 0);
  });
  return {logits_.data(), outputs * vocab};
}

}  // namespace octet
