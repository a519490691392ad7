#include "src/dist/shared_collectives.h"

#include <gtest/gtest.h>

#include <cstdlib>
#include <numeric>
#include <thread>

namespace octet {
namespace {

// Ranks as threads of this process, in memory that all of them see.
class Ranks : public ::testing::TestWithParam<size_t> {
 protected:
  Ranks() : space_(std::aligned_alloc(128, SharedCollectives::bytes(count())), &std::free) {
    std::fill_n(static_cast<char*>(space_.get()), SharedCollectives::bytes(count()), '\0');
  }
  static size_t count() { return GetParam(); }

  void run(const std::function<void(SharedCollectives&)>& work, double patience = 20) {
    std::vector<std::thread> threads;
    for (size_t r = 0; r < count(); ++r)
      threads.emplace_back([&, r] {
        SharedCollectives c(space_.get(), r, count(), patience, true);
        work(c);
      });
    for (std::thread& t : threads) t.join();
  }

  std::unique_ptr<void, void (*)(void*)> space_;
};

TEST_P(Ranks, SumsAreExactAndInTheOrderOfTheRanks) {
  run([](SharedCollectives& c) {
    // One value, one-shot, in parts, in several pieces; many in a row, so that slots come again.
    for (size_t n : {size_t{1}, size_t{3}, size_t{8191}, size_t{16385}, size_t{150'001}})
      for (int again = 0; again < 3; ++again) {
        std::vector<int32_t> whole(n);
        std::vector<float> parts(n);
        for (size_t i = 0; i < n; ++i) {
          whole[i] = static_cast<int32_t>((i * 2654435761u) * (c.rank() + 1) + 7u);
          parts[i] = 1.0f / static_cast<float>(i + 3 * c.rank() + 1);
        }
        ASSERT_TRUE(c.sum(std::span(whole))) << c.failure();
        ASSERT_TRUE(c.sum(std::span(parts))) << c.failure();
        for (size_t i = 0; i < n; ++i) {
          uint32_t exact = 0;
          float sum = 1.0f / static_cast<float>(i + 1);
          for (size_t r = 0; r < c.ranks(); ++r) {
            exact += static_cast<uint32_t>(static_cast<int32_t>((i * 2654435761u) * (r + 1) + 7u));
            if (r > 0) sum += 1.0f / static_cast<float>(i + 3 * r + 1);
          }
          ASSERT_EQ(static_cast<uint32_t>(whole[i]), exact) << n << " " << i;
          ASSERT_EQ(parts[i], sum) << n << " " << i;
        }
      }
  });
}

TEST_P(Ranks, MaximumGatherAndBroadcastMixWithSums) {
  run([](SharedCollectives& c) {
    for (int again = 0; again < 20; ++again) {
      std::vector<int32_t> message;
      if (c.rank() == 0) {
        message.resize(again % 4 == 3 ? 200'000 : static_cast<size_t>(again));
        std::iota(message.begin(), message.end(), again);
      }
      ASSERT_TRUE(c.broadcast(message)) << c.failure();
      ASSERT_EQ(message.size(), again % 4 == 3 ? 200'000u : static_cast<size_t>(again));
      for (size_t i = 0; i < message.size(); ++i)
        ASSERT_EQ(message[i], again + static_cast<int32_t>(i));

      std::vector<float> top = {static_cast<float>(c.rank()), -static_cast<float>(c.rank())};
      ASSERT_TRUE(c.maximum(top));
      EXPECT_EQ(top[0], static_cast<float>(c.ranks() - 1));
      EXPECT_EQ(top[1], 0.0f);

      std::vector<size_t> counts;
      for (size_t r = 0; r < c.ranks(); ++r) counts.push_back(r == 1 ? 100'000 : 10 * r + 1);
      const std::vector<float> mine(counts[c.rank()], static_cast<float>(c.rank()) + 0.5f);
      std::vector<float> all(
          c.rank() == 0 ? std::accumulate(counts.begin(), counts.end(), size_t{0}) : 0);
      ASSERT_TRUE(c.gather(mine, counts, all));
      if (c.rank() != 0) continue;
      size_t i = 0;
      for (size_t r = 0; r < c.ranks(); ++r)
        for (size_t k = 0; k < counts[r]; ++k) ASSERT_EQ(all[i++], static_cast<float>(r) + 0.5f);
    }
  });
}

TEST_P(Ranks, AllGetAllParts) {
  run([](SharedCollectives& c) {
    // Parts of no bytes, of a few, and of several pieces.
    for (size_t unit : {size_t{0}, size_t{1}, size_t{7}, size_t{300'001}}) {
      std::vector<size_t> cuts = {0};
      for (size_t r = 0; r < c.ranks(); ++r) cuts.push_back(cuts.back() + (r % 3) * unit);
      std::vector<std::byte> all(cuts.back(), std::byte{255});
      const auto value = [](size_t i) { return static_cast<std::byte>(i * 37 % 251); };
      for (size_t i = cuts[c.rank()]; i < cuts[c.rank() + 1]; ++i) all[i] = value(i);
      ASSERT_TRUE(c.all_gather(all, cuts)) << c.failure();
      for (size_t i = 0; i < all.size(); ++i) ASSERT_EQ(all[i], value(i)) << unit << " " << i;
    }
  });
}

TEST_P(Ranks, OneThatDoesNotAnswerIsNamed) {
  if (count() == 1) return;
  const size_t silent = count() - 1;
  run(
      [&](SharedCollectives& c) {
        if (c.rank() == silent) return;
        std::vector<float> v(5, 1.0f);
        EXPECT_FALSE(c.sum(std::span(v)));
        EXPECT_NE(c.failure().find("rank"), std::string::npos);
        if (count() == 2) {
          EXPECT_EQ(c.failure().find("rank 1 of 2"), 0u) << c.failure();
        }
      },
      0.2);
}

TEST_P(Ranks, ASilentFirstRankIsNamed) {
  run(
      [](SharedCollectives& c) {
        std::vector<int32_t> message;
        if (c.rank() == 0) return;
        EXPECT_FALSE(c.broadcast(message));
        EXPECT_EQ(c.failure().find("rank 0 of"), 0u) << c.failure();
      },
      0.2);
}

TEST_P(Ranks, OneThatIsLateIsWaitedForWhereRanksMeet) {
  run(
      [&](SharedCollectives& c) {
        if (c.rank() == 0) std::this_thread::sleep_for(std::chrono::milliseconds(300));
        EXPECT_TRUE(c.meet()) << c.failure();
      },
      0.1);
}

INSTANTIATE_TEST_SUITE_P(Counts, Ranks, ::testing::Values(1, 2, 3, 8));

}  // namespace
}  // namespace octet
