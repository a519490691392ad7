// How the workers share products.
#include "src/model/gemm_share.h"

#include <gtest/gtest.h>

#include <vector>

namespace octet {
namespace {

// Outputs of q, k and v, o, gate and up, down of the shapes of Qwen2.5-0.5B, 1.5B and 7B,
// Llama-3.2-1B, 3.1-8B and 3.1-70B, and of their heads.
constexpr size_t kOutputs[] = {128,  256,  512,  896,   1024,  1536,  2048,   3584,  4096,
                               4864, 8192, 8960, 14336, 18944, 28672, 128256, 151936};

// Every row of every panel once, for all shapes, batches and numbers of workers; and nobody has
// more than 1.1 times the mean, or the mean and what is not cut.
TEST(GemmShare, CoversAllEvenly) {
  for (size_t panel : {4, 16, 32, 48, 64})
    for (size_t n : kOutputs)
      for (size_t m : {1, 2, 5, 6, 8, 16, 31, 64, 130, 512, 2048})
        for (size_t workers = 1; workers <= 128; workers += workers < 9 ? 1 : 7) {
          SCOPED_TRACE(testing::Message()
                       << n << " by " << panel << ", " << m << " rows, " << workers << " workers");
          const size_t panels = (n + panel - 1) / panel;
          std::vector<size_t> next(panels);  // row of each panel
          size_t most = 0;
          for (size_t id = 0; id < workers; ++id) {
            size_t own = 0;
            for (const GemmTile& t : gemm_share(id, workers, panels, m)) {
              ASSERT_LT(t.row_begin, t.row_end);
              ASSERT_LT(t.panel_begin, t.panel_end);
              for (size_t p = t.panel_begin; p < t.panel_end; ++p) {
                ASSERT_EQ(next[p], t.row_begin);
                next[p] = t.row_end;
              }
              own += (t.panel_end - t.panel_begin) * (t.row_end - t.row_begin);
            }
            most = std::max(most, own);
          }
          for (size_t row : next) ASSERT_EQ(row, m);
          const double mean = static_cast<double>(panels * m) / static_cast<double>(workers);
          // Units of a panel may differ by a row.
          const double uncut = static_cast<double>(std::min(m, kLeastRows + 1));
          EXPECT_LE(static_cast<double>(most), std::max(1.1 * mean, mean + uncut));
          // Prompts on the machines that there are: 64 cores and AVX-512's panels.
          if (m >= 512 && n >= 896 && workers <= 64) {
            EXPECT_LE(static_cast<double>(most), 1.1 * mean);
          }
        }
}

TEST(GemmShare, NothingOfNothing) {
  for (size_t id : {0, 1}) {
    const GemmShare no_rows = gemm_share(id, 2, 5, 0);
    EXPECT_EQ(no_rows.begin(), no_rows.end());
    const GemmShare no_panels = gemm_share(id, 2, 0, 5);
    EXPECT_EQ(no_panels.begin(), no_panels.end());
  }
}

}  // namespace
}  // namespace octet
