#include "src/model/transformer.h"

#include <algorithm>

#include "src/base/checked.h"
#include "src/model/reduced_linear.h"
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

// A batch as the ranks tell it to each other: the model, counts, tokens, rows, and for every chunk
// its numbers and pages.
std::vector<int32_t> to_message(size_t model, const Batch& batch) {
  const auto number = [](size_t n) { return static_cast<int32_t>(n); };
  std::vector<int32_t> m = {number(model), number(batch.tokens.size()),
                            number(batch.logit_rows.size()), number(batch.chunks.size())};
  m.insert(m.end(), batch.tokens.begin(), batch.tokens.end());
  for (size_t row : batch.logit_rows) m.push_back(number(row));
  for (const SequenceChunk& s : batch.chunks) {
    for (size_t n : {s.first_row, s.tokens, s.position, s.generated}) m.push_back(number(n));
    m.insert(m.end(), s.blocks, s.blocks + blocks_for(s.position + s.tokens));
  }
  return m;
}

struct BatchMessage {
  Batch batch;
  std::vector<int32_t> message;  // holds the pages

  void read(std::vector<int32_t> m) {
    message = std::move(m);
    const int32_t* at = message.data() + 4;
    batch.tokens.assign(at, at + message[1]);
    at += message[1];
    batch.logit_rows.assign(at, at + message[2]);
    at += message[2];
    batch.chunks.clear();
    for (int32_t i = 0; i < message[3]; ++i) {
      const SequenceChunk s = {as_size(at[0]), as_size(at[1]), as_size(at[2]), at + 4,
                               as_size(at[3])};
      batch.chunks.push_back(s);
      at += 4 + blocks_for(s.position + s.tokens);
    }
  }
};

const std::vector<int32_t> kPing = {0};

// Everybody waits for everybody.
void answer(Communicator& ranks) {
  float here = 1;
  ranks.maximum({&here, 1});
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
                         const LoadOptions& options)
    : folder_(std::move(folder)),
      team_(team),
      alone_(options.ranks == nullptr ? solo_communicator() : nullptr),
      ranks_(options.ranks == nullptr ? *alone_ : *options.ranks),
      number_(options.number),
      shard_(make_shard(folder_->config(), ranks_.rank(), ranks_.size())),
      shape_(folder_->config(), shard_),
      rope_(folder_->config()),
      embedding_type_(folder_->tensors().get(kEmbeddingWeight).dtype),
      final_norm_(load_final_norm(*folder_)),
      head_(*folder_, shard_, shard_.whole() ? options.head : HeadMode::kExact, team),
      buffers_(shape_, options.max_rows),
      head_stage_(buffers_.stage) {
  const ModelConfig& c = config();
  if (!head_.has_embedding()) load_embedding();
  for (int64_t l = 0; l < c.layers; ++l) {
    DecoderLayer& layer = layers_.emplace_back(load_layer(*folder_, l, shard_, team));
    if (!shard_.whole())
      for (std::unique_ptr<Linear>* linear : {&layer.o, &layer.down})
        *linear =
            std::make_unique<ReducedLinear>(std::move(*linear), ranks_, options.max_rows, reduce_);
    if (options.on_layer) options.on_layer();
  }
}

void Transformer::load_embedding() {
  const size_t hidden = as_size(config().hidden_size);
  const TensorView& table = folder_->tensors().get(kEmbeddingWeight);
  table.expect_shape({static_cast<uint64_t>(config().vocab_size), hidden});
  float_type(table.dtype);  // throws for other types
  const TensorView own = table.part(shard_.vocab.begin * hidden, shard_.vocab.size() * hidden);
  embedding_.ensure(own.data.size());
  team_.run([&](Worker& w) {
    const auto [begin, end] = w.share(own.data.size(), size_t{1} << 20);
    std::copy(own.data.begin() + static_cast<ptrdiff_t>(begin),
              own.data.begin() + static_cast<ptrdiff_t>(end), embedding_.data() + begin);
  });
  own.release();
}

uint64_t Transformer::weight_bytes() const {
  uint64_t bytes = head_.bytes();
  for (const DecoderLayer& l : layers_) bytes += l.bytes();
  return bytes;
}

void Transformer::wrap_linears(const Wrap& wrap) {
  for (size_t l = 0; l < layers_.size(); ++l) {
    for (const PartRow& row : part_rows()) {
      std::unique_ptr<Linear>& linear = layers_[l].part(row.part);
      linear = wrap(l, row.part, std::move(linear));
    }
  }
}

// Each rank has rows of the table; a token's row is the sum of one rank's and of zeros.
void Transformer::embed(Worker& w, const Batch& batch) {
  const size_t hidden = as_size(config().hidden_size), half = rope_.half_dim();
  const size_t row_bytes = hidden * dtype_size(embedding_type_);
  const auto [begin, end] = w.share(batch.tokens.size());
  TensorView row;
  row.dtype = embedding_type_;
  for (size_t r = begin; r < end; ++r) {
    const size_t token = as_size(batch.tokens[r]);
    float* x = buffers_.x.data() + r * hidden;
    if (token < shard_.vocab.begin || token >= shard_.vocab.end) {
      std::fill_n(x, hidden, 0.0f);
      continue;
    }
    const size_t own = token - shard_.vocab.begin;
    if (head_.has_embedding()) {
      head_.embedding(own, x);
      continue;
    }
    row.data = {embedding_.data() + own * row_bytes, row_bytes};
    row.to_floats(x);
  }
  for (const SequenceChunk& s : batch.chunks)
    for (size_t r = std::max(begin, s.first_row); r < std::min(end, s.first_row + s.tokens); ++r)
      rope_.angles(s.position + r - s.first_row, buffers_.cos.data() + r * half,
                   buffers_.sin.data() + r * half);
}

std::span<float> Transformer::forward(const Batch& batch, KvCache& cache) {
  const size_t m = batch.tokens.size(), outputs = batch.logit_rows.size();
  OCTET_CHECK(m > 0 && m <= buffers_.rows && outputs <= m);
  for (int32_t t : batch.tokens) OCTET_CHECK(t >= 0 && t < config().vocab_size);
  if (!shard_.whole()) {
    std::vector<int32_t> message = to_message(number_, batch);
    ranks_.broadcast(message);
  }
  return compute(batch, cache);
}

void Transformer::follow(Communicator& ranks, const std::vector<Followed>& models) {
  BatchMessage received;
  while (true) {
    std::vector<int32_t> message;
    ranks.broadcast(message);
    ranks.throw_failure();
    if (message.empty()) return;
    if (message == kPing) {
      answer(ranks);
      continue;
    }
    received.read(std::move(message));
    const Followed& f = models.at(as_size(received.message[0]));
    f.model->compute(received.batch, *f.cache);
  }
}

void Transformer::release() {
  std::vector<int32_t> nothing;
  if (!shard_.whole() && !ranks_.failed()) ranks_.broadcast(nothing);
}

void Transformer::ping() {
  if (shard_.whole()) return;
  std::vector<int32_t> message = kPing;
  ranks_.broadcast(message);
  answer(ranks_);
  ranks_.throw_failure();
}

// From own_logits_ [rows, own vocabulary] of all ranks to logits_ [rows, vocabulary] of rank 0.
void Transformer::gather_logits(size_t rows) {
  const size_t vocab = as_size(config().vocab_size);
  std::vector<size_t> counts;
  for (size_t r = 0; r < ranks_.size(); ++r)
    counts.push_back(rows * make_shard(config(), r, ranks_.size()).vocab.size());
  if (ranks_.rank() == 0) gathered_.ensure(rows * vocab);
  ranks_.gather({own_logits_.data(), counts[ranks_.rank()]}, counts,
                {gathered_.data(), ranks_.rank() == 0 ? rows * vocab : 0});
  if (ranks_.rank() != 0) return;
  const float* from = gathered_.data();
  size_t column = 0;
  for (size_t count : counts) {
    const size_t width = count / rows;
    for (size_t r = 0; r < rows; ++r, from += width)
      std::copy(from, from + width, logits_.data() + r * vocab + column);
    column += width;
  }
}

std::span<float> Transformer::compute(const Batch& batch, KvCache& cache) {
  const size_t m = batch.tokens.size(), outputs = batch.logit_rows.size();
  const size_t hidden = shape_.hidden, vocab = as_size(config().vocab_size);
  const size_t own_vocab = shard_.vocab.size();
  Buffer<float>& own = shard_.whole() ? logits_ : own_logits_;
  own.ensure(outputs * own_vocab);
  if (ranks_.rank() == 0) logits_.ensure(outputs * vocab);
  buffers_.stage.set_runs(runs_of_rows(batch));
  buffers_.attention.set(shape_, batch.chunks, team_.size());
  head_stage_.set_runs(runs_of_logits(batch, buffers_.stage.runs()));
  head_.begin_step(batch.largest, outputs);
  team_.run([&](Worker& w) {
    embed(w, batch);
    w.barrier();
    if (!shard_.whole()) {
      if (w.id() == 0) ranks_.sum(std::span(buffers_.x.data(), m * hidden));
      w.barrier();
    }
    for (size_t l = 0; l < layers_.size(); ++l)
      layers_[l].forward(w, shape_, m,
                         {cache.k_pool(l), cache.v_pool(l), cache.page_elements(), cache.type()},
                         buffers_);
    // The wanted rows are moved together in h, so that the head sees [outputs, hidden].
    const auto [begin, end] = w.share(outputs);
    float* h = buffers_.h.data();
    for (size_t i = begin; i < end; ++i)
      final_norm_.rows(buffers_.x.data() + batch.logit_rows[i] * hidden, 0, 1, h + i * hidden);
    const Rows in = {h, hidden, outputs};
    head_.stage(w, in, head_stage_);
    w.barrier();
    head_.compute(w, in, {own.data(), own_vocab}, head_stage_);
  });
  if (!shard_.whole() && outputs > 0) gather_logits(outputs);
  ranks_.throw_failure();
  return {logits_.data(), outputs * vocab};
}

}  // namespace octet
