// What a model costs on many ranks, before anybody has them: time of a step, memory of a rank.
// docs/distributed.md explains the formulas.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "src/checkpoint/model_config.h"
#include "src/checkpoint/quant_description.h"
#include "src/dist/shard.h"

namespace octet {

struct HostSpeed {
  double memory = 0;  // bytes of weights that a product of one row reads a second, all cores
  // Of products of many rows, a second; a multiply-add counts two. Attention goes at the second.
  double int8_ops = 0, float_ops = 0;
  uint64_t bytes = 0;  // of memory
};

// Between hosts.
struct NetworkSpeed {
  double bandwidth = 1.25e9;  // bytes a second of a host
  double latency = 50e-6;     // seconds of a message
};

struct PlanOptions {
  size_t ranks = 1, hosts = 1;  // no more hosts than ranks
  HostSpeed host;
  NetworkSpeed network;
  size_t context = 2048;  // tokens of a sequence
  size_t chunk = 512;     // rows of a prefill step
  double kv_element = 2;  // bytes
};

// A term of a sum, for showing it.
struct PlanTerm {
  std::string name;
  double seconds;
};

class CostModel {
 public:
  // The type of a linear, by its full name.
  using SchemeOf = std::function<Scheme(const std::string& name)>;
  // Throws Error for a model that cannot be divided so.
  CostModel(const ModelConfig& config, const SchemeOf& scheme, const PlanOptions& options);

  size_t ranks_per_host() const { return per_host_; }
  // One token for each of `batch` sequences of options.context tokens.
  std::vector<PlanTerm> decode(size_t batch) const;
  // options.chunk tokens of one prompt, half of the context before them.
  std::vector<PlanTerm> prefill() const;
  // Bytes of the fullest rank: weights, pages of a sequence, buffers of a step.
  uint64_t weight_bytes() const { return weights_; }
  uint64_t sequence_bytes() const { return sequence_; }
  uint64_t buffer_bytes() const { return buffers_; }
  // Sequences of options.context tokens that fit beside the weights in nine tenths of the memory.
  size_t largest_batch() const;
  // Seconds to add up so many bytes over all ranks.
  double all_reduce(double bytes) const;

 private:
  PlanOptions options_;
  ModelConfig config_;
  size_t per_host_ = 1;
  uint64_t weights_ = 0, sequence_ = 0, buffers_ = 0;
  uint64_t int8_elements_ = 0, float_elements_ = 0;  // weights of the fullest rank
  uint64_t row_bytes_ = 0;                           // that a row of a layer writes and reads
  uint64_t float_head_ = 0;                          // those of a head in floats
  bool screened_ = false;                            // the head (docs/kernels.md)
};

double total(const std::vector<PlanTerm>& terms);

}  // namespace octet
