// The bounds of HeadScreen against the logits that FloatLinear computes: none is below its logit,
// for weights and inputs of every kind, and for ordinary ones they are near.
#include "src/model/head_screen.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "src/base/float16.h"
#include "src/model/float_linear.h"

namespace octet {
namespace {

using kernels::FloatType;

class HeadScreenTest : public testing::Test {
 protected:
  float normal() { return normal_(random_); }

  // Weights of bf16, and the linear that computes them.
  void load(size_t n, size_t k, const std::function<float(size_t, size_t)>& weight) {
    n_ = n;
    k_ = k;
    w_.resize(n * k);
    std::vector<bf16> stored(n * k);
    for (size_t j = 0; j < n; ++j)
      for (size_t i = 0; i < k; ++i) {
        stored[j * k + i] = to_bf16(weight(j, i));
        w_[j * k + i] = to_float(stored[j * k + i]);
      }
    linear_.emplace(stored.data(), FloatType::kBF16, n, k, std::vector<float>(), team_);
    screen_.emplace(contiguous_rows(w_.data(), k * sizeof(float)), n, k, team_);
  }

  // Bounds and logits of rows x [m, k].
  void compute(const std::vector<float>& x) {
    const size_t m = x.size() / k_;
    StageBuffer buffer(m, k_, 1);
    bounds_.assign(m * n_, -INFINITY);
    logits_.assign(m * n_, 0);
    screen_->make_room(m);
    const Rows in = {x.data(), k_, m};
    team_.run([&](Worker& w) {
      const auto [begin, end] = w.share(m);
      for (size_t r = begin; r < end; ++r) screen_->stage(r, x.data() + r * k_, buffer);
      w.barrier();
      screen_->bound(w, 0, m, {bounds_.data(), n_}, buffer);
      linear_->compute(w, in, {logits_.data(), n_}, buffer, 0);
    });
  }

  ThreadTeam team_{2};
  std::mt19937 random_{5};
  std::normal_distribution<float> normal_;
  size_t n_ = 0, k_ = 0;
  std::vector<float> w_, bounds_, logits_;
  std::optional<FloatLinear> linear_;
  std::optional<HeadScreen> screen_;
};

TEST_F(HeadScreenTest, NoBoundIsBelowItsLogit) {
  const std::vector<std::function<float(size_t, size_t)>> kinds = {
      [&](size_t, size_t) { return normal(); },
      [&](size_t j, size_t) { return static_cast<float>(j) * 0.01f; },  // rows of one value
      [&](size_t j, size_t i) { return i == j % 7 ? 100.0f : normal() * 0.01f; },  // outliers
      [&](size_t j, size_t i) { return (i + j) % 2 == 0 ? 1.0f : -1.0f; },
      [&](size_t j, size_t) { return j % 3 == 0 ? 0.0f : normal() * 1e-20f; },
      [&](size_t j, size_t) { return normal() * std::ldexp(1.0f, static_cast<int>(j % 60) - 30); },
      [&](size_t, size_t) { return 1e-39f; },
      [&](size_t, size_t) { return normal() * 1e12f; },
  };
  for (size_t k : {1, 6, 64, 77, 96, 576})
    for (size_t kind = 0; kind < kinds.size(); ++kind) {
      SCOPED_TRACE(testing::Message() << "k " << k << ", kind " << kind);
      load(150, k, kinds[kind]);
      ASSERT_TRUE(screen_->usable());
      std::vector<float> x;
      for (float size : {1.0f, 1e-15f, 1e6f})
        for (size_t i = 0; i < k; ++i) x.push_back(normal() * size);
      for (size_t i = 0; i < k; ++i) x.push_back(i == k / 2 ? 300.0f : normal());  // an outlier
      for (size_t i = 0; i < k; ++i) x.push_back(0);
      for (size_t i = 0; i < k; ++i) x.push_back(w_[3 * k + i] * 1e-3f);  // along a row
      compute(x);
      for (size_t r = 0; r < x.size() / k; ++r) {
        ASSERT_TRUE(screen_->bounded(r));
        for (size_t j = 0; j < n_; ++j)
          ASSERT_GE(bounds_[r * n_ + j], logits_[r * n_ + j]) << "row " << r << ", output " << j;
      }
    }
}

// Of normal weights and inputs the largest code is 4 deviations or so, an error within half of a
// code then 0.9 % of the norm; two of them are 2 % of |w| |x|. A bound that were far from it would
// screen nothing.
TEST_F(HeadScreenTest, BoundsAreNear) {
  load(400, 576, [&](size_t, size_t) { return normal(); });
  std::vector<float> x(576);
  for (float& v : x) v = normal();
  x[17] = 60;  // spread by the rotation
  compute(x);
  double norm = 0;
  for (float v : x) norm += double{v} * v;
  for (size_t j = 0; j < n_; ++j) {
    double own = 0;
    for (size_t i = 0; i < k_; ++i) own += double{w_[j * k_ + i]} * w_[j * k_ + i];
    EXPECT_LT(bounds_[j] - logits_[j], 2 * 0.03 * std::sqrt(norm * own)) << j;
  }
}

TEST_F(HeadScreenTest, WhatIsNotFiniteOrHugeHasNoBounds) {
  for (float bad : {NAN, INFINITY, 1e30f}) {
    load(70, 64, [&](size_t j, size_t i) { return j == 50 && i == 3 ? bad : 0.5f; });
    EXPECT_FALSE(screen_->usable()) << bad;
  }
  load(70, 64, [&](size_t, size_t) { return 1e15f; });
  EXPECT_TRUE(screen_->usable());
  StageBuffer buffer(4, 64, 1);
  screen_->make_room(4);
  size_t row = 0;
  for (float value : {1.0f, 1e13f, INFINITY, NAN}) {
    const std::vector<float> x(64, value);
    screen_->stage(row, x.data(), buffer);
    EXPECT_EQ(screen_->bounded(row), value == 1.0f) << value;
    ++row;
  }
}

}  // namespace
}  // namespace octet
