// A decoder layer and the error of rounding its inputs, computed plainly in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <optional>
#include <vector>

#include "src/checkpoint/model_config.h"
#include "src/quant/int8/quant_params.h"
#include "src/quant/layer/float_layer.h"

namespace octet::tests {

using TraceRows = std::vector<std::vector<double>>;  // of all tokens

inline TraceRows plain_norm(const TraceRows& x, const Norm& norm) {
  TraceRows y = x;
  const size_t n = norm.weight.size();
  for (auto& row : y)
    for (size_t first = 0; n > 0 && first < row.size(); first += n) {  // of every head, or of all
      double sum = 0;
      for (size_t i = 0; i < n; ++i) sum += row[first + i] * row[first + i];
      const double inverse = 1 / std::sqrt(sum / static_cast<double>(n) + double{norm.eps});
      for (size_t i = 0; i < n; ++i)
        row[first + i] = row[first + i] * inverse * double{norm.weight[i]} +
                         (norm.bias.empty() ? 0 : double{norm.bias[i]});
    }
  return y;
}

inline TraceRows plain_linear(const TraceRows& x, const FloatWeight& w) {
  TraceRows y;
  for (const auto& row : x) {
    auto& out = y.emplace_back();
    for (size_t j = 0; j < w.shape.n; ++j) {
      double sum = w.bias.empty() ? 0 : double{w.bias[j]};
      for (size_t i = 0; i < w.shape.k; ++i) sum += row[i] * double{w.w[j * w.shape.k + i]};
      out.push_back(sum);
    }
  }
  return y;
}

inline void add_rows(TraceRows& x, const TraceRows& y) {
  for (size_t t = 0; t < x.size(); ++t)
    for (size_t i = 0; i < x[t].size(); ++i) x[t][i] += y[t][i];
}

// What a layer makes of states.
struct LayerTrace {
  TraceRows qkv_input, keys, values, attended, after_attention, gate_up_input, activated, after_mlp;
};

inline LayerTrace plain_layer(const ModelConfig& c, const FloatLayer& l, const TraceRows& states,
                              const std::vector<size_t>& lengths) {
  LayerTrace r;
  const size_t width = static_cast<size_t>(c.head_dim), half = width / 2;
  const size_t heads = static_cast<size_t>(c.heads),
               group = heads / static_cast<size_t>(c.kv_heads);
  r.qkv_input = plain_norm(states, l.norms[NormKind::kInput]);
  TraceRows queries =
      plain_norm(plain_linear(r.qkv_input, l.at(LinearKind::kQ)), l.norms[NormKind::kQuery]);
  r.keys = plain_norm(plain_linear(r.qkv_input, l.at(LinearKind::kK)), l.norms[NormKind::kKey]);
  r.values = plain_linear(r.qkv_input, l.v());
  size_t first = 0;
  for (const size_t length : lengths) {
    for (size_t t = 0; t < length; ++t)
      for (TraceRows* rows : {&queries, &r.keys})
        for (size_t head = 0; head < (*rows)[first + t].size(); head += width)
          for (size_t i = 0; i < half; ++i) {
            double &a = (*rows)[first + t][head + i], &b = (*rows)[first + t][head + half + i];
            const double angle =
                static_cast<double>(t) *
                std::pow(c.rope_theta, -static_cast<double>(i) / static_cast<double>(half));
            const double turned = a * std::cos(angle) - b * std::sin(angle);
            b = b * std::cos(angle) + a * std::sin(angle);
            a = turned;
          }
    for (size_t t = first; t < first + length; ++t) {
      auto& out = r.attended.emplace_back(heads * width, 0.0);
      for (size_t head = 0; head < heads; ++head) {
        const size_t kv = head / group * width;
        double total = 0;
        for (size_t s = first; s <= t; ++s) {
          double score = 0;
          for (size_t i = 0; i < width; ++i)
            score += queries[t][head * width + i] * r.keys[s][kv + i];
          const double share = std::exp(score / std::sqrt(static_cast<double>(width)));
          total += share;
          for (size_t i = 0; i < width; ++i) out[head * width + i] += share * r.values[s][kv + i];
        }
        for (size_t i = 0; i < width; ++i) out[head * width + i] /= total;
      }
    }
    first += length;
  }
  r.after_attention = states;
  add_rows(r.after_attention, plain_linear(r.attended, l.o()));
  r.gate_up_input = plain_norm(r.after_attention, l.norms[NormKind::kPostAttention]);
  r.activated = plain_linear(r.gate_up_input, l.up());
  const TraceRows gate = plain_linear(r.gate_up_input, l.at(LinearKind::kGate));
  for (size_t t = 0; t < gate.size(); ++t)
    for (size_t i = 0; i < gate[t].size(); ++i)
      r.activated[t][i] *= gate[t][i] / (1 + std::exp(-gate[t][i]));
  r.after_mlp = r.after_attention;
  add_rows(r.after_mlp, plain_linear(r.activated, l.down()));
  return r;
}

// sum_t weight |x - before|^2
inline double plain_energy(const TraceRows& x, const std::vector<double>& weight,
                           const TraceRows* before = nullptr) {
  double sum = 0;
  for (size_t t = 0; t < x.size(); ++t)
    for (size_t i = 0; i < x[t].size(); ++i)
      sum += weight[t] * std::pow(x[t][i] - (before == nullptr ? 0 : (*before)[t][i]), 2);
  return sum;
}

// The inverse of a token's mean square, 1 on average.
inline std::vector<double> plain_weights(const TraceRows& states) {
  std::vector<double> w;
  double total = 0;
  for (const auto& row : states) {
    w.push_back(static_cast<double>(row.size()) / plain_energy({row}, {1}));
    total += w.back();
  }
  for (double& v : w) v *= static_cast<double>(w.size()) / total;
  return w;
}

inline std::vector<double> plain_mean(const TraceRows& x, const std::vector<double>& weight) {
  std::vector<double> mean(x[0].size());
  double total = 0;
  for (size_t t = 0; t < x.size(); ++t) {
    total += weight[t];
    for (size_t i = 0; i < mean.size(); ++i) mean[i] += weight[t] * x[t][i];
  }
  for (double& v : mean) v /= total;
  return mean;
}

// sum_t weight sum_i |W_i|^2 (x_i - rounded x_i)^2: rounded to steps of `scale` about `offset`, or,
// with neither, of max|x| / 127 of each token; and the same sum of x_i^2.
struct PlainError {
  double error = 0, signal = 0;
};
inline PlainError plain_error(const TraceRows& x, const std::vector<const FloatWeight*>& weights,
                              const std::vector<double>& weight,
                              std::optional<QuantParams> params) {
  PlainError e;
  for (size_t t = 0; t < x.size(); ++t) {
    double scale = params ? double{params->scale} : 0;
    const double offset = params ? double{params->offset} : 0;
    if (!params)
      for (double v : x[t]) scale = std::max(scale, std::fabs(v) / 127);
    for (size_t i = 0; i < x[t].size(); ++i) {
      double square = 0;
      for (const FloatWeight* w : weights)
        for (size_t j = 0; j < w->shape.n; ++j)
          square += std::pow(double{w->w[j * w->shape.k + i]}, 2);
      const double level = std::clamp(std::nearbyint(x[t][i] / scale) + offset, -128.0, 127.0);
      e.error += weight[t] * square * std::pow((level - offset) * scale - x[t][i], 2);
      e.signal += weight[t] * square * x[t][i] * x[t][i];
    }
  }
  return e;
}

// The range from the least to the largest value, zero among them, in 255 steps.
inline QuantParams plain_min_max(const TraceRows& x) {
  double low = 0, high = 0;
  for (const auto& row : x)
    for (double v : row) {
      low = std::min(low, v);
      high = std::max(high, v);
    }
  const double scale = (high - low) / 255;
  return {static_cast<float>(scale), static_cast<float>(std::nearbyint(-low / scale) - 128)};
}

}  // namespace octet::tests
