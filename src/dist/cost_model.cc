#include "src/dist/cost_model.h"

#include <algorithm>
#include <cmath>

#include "src/base/checked.h"
#include "src/checkpoint/model_folder.h"

namespace octet {
namespace {

// A hand-over between ranks of one host, and what every rank reads of the others' there.
constexpr double kLocalLatency = 2e-6;
// Scale, correction and bounds of an output (model/head_screen.h).
constexpr double kScreenRowBytes = 16;
// Norms, rope, waiting: per layer and step.
constexpr double kLayerLatency = 20e-6;

}  // namespace

CostModel::CostModel(const ModelConfig& config, const SchemeOf& scheme, const PlanOptions& options)
    : options_(options), config_(config) {
  per_host_ = (options_.ranks + options_.hosts - 1) / options_.hosts;
  for (size_t rank = 0; rank < options_.ranks; ++rank) {
    const Shard shard = make_shard(config_, rank, options_.ranks);
    double int8 = 0, floats = 0, bytes = 0;
    for (const NamedLinear& l : linears_of(config_)) {
      const Scheme type = scheme(l.name);
      const double elements = static_cast<double>(shard.extent(l.rows, config_).size()) *
                              static_cast<double>(shard.extent(l.columns, config_).size());
      (is_quantized(type) ? int8 : floats) += elements;
      bytes += elements * static_cast<double>(octet::weight_bytes(type, config_.dtype));
    }
    const double vocab = static_cast<double>(shard.vocab.size());
    const double table = vocab * static_cast<double>(config_.hidden_size);
    const bool float_head = !is_quantized(scheme(kHead));
    // A tied head in floats is the table of embeddings, too.
    if (!(config_.tie_word_embeddings && float_head))
      bytes += table * static_cast<double>(dtype_size(config_.dtype));
    const bool screened = float_head && options_.ranks == 1;
    if (screened) bytes += table + vocab * kScreenRowBytes;
    if (bytes < static_cast<double>(weights_)) continue;
    weights_ = static_cast<uint64_t>(bytes);
    int8_elements_ = static_cast<uint64_t>(int8);
    float_elements_ = static_cast<uint64_t>(floats);
    float_head_ = float_head ? static_cast<uint64_t>(table) : 0;
    screened_ = screened;
    const RankShape shape(config_, shard);
    sequence_ = static_cast<uint64_t>(static_cast<double>(2 * shape.layers * shape.kv_size()) *
                                      static_cast<double>(options_.context) * options_.kv_element);
    // A row of a layer, in floats that are written or read: the residual and its norm twice, q, k
    // and v written, rotated and read, the output of attention, gate and up written and read, their
    // product too.
    row_bytes_ = 4 * (8 * shape.hidden + 4 * (shape.q_size() + 2 * shape.kv_size()) +
                      2 * shape.q_size() + 6 * shape.intermediate);
    const size_t summed = options_.ranks > 1 ? 2 * shape.hidden : 0;  // of int8, of floats
    buffers_ = 4 * options_.chunk *
               (4 * shape.hidden + summed + 2 * shape.q_size() + 2 * shape.kv_size() +
                3 * shape.intermediate);
  }
}

double CostModel::all_reduce(double bytes) const {
  if (options_.ranks == 1) return 0;
  double seconds = 0;
  if (per_host_ > 1) {
    // Every rank reads the others' parts from cache or memory, all at once; after the network, the
    // first rank's.
    const double local = static_cast<double>(per_host_);
    const double speed = options_.host.memory;
    seconds += kLocalLatency * std::log2(local) + bytes * local / speed;
    if (options_.hosts > 1) seconds += kLocalLatency + bytes * (local - 1) / speed;
  }
  if (options_.hosts > 1) {
    // Between the first ranks of the hosts.
    const double h = static_cast<double>(options_.hosts);
    const double latency = options_.network.latency, bandwidth = options_.network.bandwidth;
    const double doubling = std::ceil(std::log2(h)) * (latency + bytes / bandwidth);
    const double ring = 2 * (h - 1) * latency + 2 * (h - 1) / h * bytes / bandwidth;
    seconds += std::min(doubling, ring);
  }
  return seconds;
}

std::vector<PlanTerm> CostModel::decode(size_t batch) const {
  const double share = static_cast<double>(per_host_), b = static_cast<double>(batch);
  const double hidden = static_cast<double>(config_.hidden_size);
  const double layers = static_cast<double>(config_.layers);
  // Greedy or top-k: a float head is screened in int8.
  const double screen = screened_ ? static_cast<double>(float_head_) : 0;
  const double int8 = static_cast<double>(int8_elements_) + screen;
  const double floats = static_cast<double>(float_elements_) - screen;
  const double bytes = int8 + floats * static_cast<double>(dtype_size(config_.dtype));
  const double reading = bytes * share / options_.host.memory;
  const double computing =
      2 * b * share * (int8 / options_.host.int8_ops + floats / options_.host.float_ops);
  std::vector<PlanTerm> terms = {
      {"weights", std::max(reading, computing)},
      {"keys and values", b * static_cast<double>(sequence_) * share / options_.host.memory},
      {"norms, rope, barriers", layers * kLayerLatency}};
  if (options_.ranks > 1) {
    terms.push_back({"sums over the ranks", (2 * layers + 1) * all_reduce(b * hidden * 4)});
    const double latency = options_.hosts == 1 ? kLocalLatency : options_.network.latency;
    // On several hosts the logits of all but the first pass the network.
    const double speed = options_.hosts == 1
                             ? options_.host.memory
                             : options_.network.bandwidth * static_cast<double>(options_.ranks) /
                                   static_cast<double>(options_.ranks - per_host_);
    terms.push_back({"telling the step, gathering logits",
                     2 * latency + b * static_cast<double>(config_.vocab_size) * 4 / speed});
  }
  return terms;
}

std::vector<PlanTerm> CostModel::prefill() const {
  const double share = static_cast<double>(per_host_), m = static_cast<double>(options_.chunk);
  const double layers = static_cast<double>(config_.layers);
  const double heads =
      std::ceil(static_cast<double>(config_.heads) / static_cast<double>(options_.ranks));
  const double pairs = m * (static_cast<double>(options_.context) / 2);
  std::vector<PlanTerm> terms = {
      {"int8 products",
       2 * m * static_cast<double>(int8_elements_) * share / options_.host.int8_ops},
      {"float products",
       2 *
           (m * static_cast<double>(float_elements_ - float_head_) +  // the head: of one row
            static_cast<double>(float_head_)) *
           share / options_.host.float_ops},
      {"attention", 4 * pairs * heads * static_cast<double>(config_.head_dim) * layers * share /
                        options_.host.float_ops},
      {"activations", m * layers * static_cast<double>(row_bytes_) * share / options_.host.memory}};
  if (options_.ranks > 1)
    terms.push_back(
        {"sums over the ranks",
         (2 * layers + 1) * all_reduce(m * static_cast<double>(config_.hidden_size) * 4)});
  return terms;
}

size_t CostModel::largest_batch() const {
  const double room =
      0.9 * static_cast<double>(options_.host.bytes) / static_cast<double>(per_host_) -
      static_cast<double>(weights_ + buffers_);
  return room <= 0 ? 0 : static_cast<size_t>(room / static_cast<double>(sequence_));
}

double total(const std::vector<PlanTerm>& terms) {
  double sum = 0;
  for (const PlanTerm& t : terms) sum += t.seconds;
  return sum;
}

}  // namespace octet
