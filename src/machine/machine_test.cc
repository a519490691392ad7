#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <fstream>
#include <map>
#include <thread>
#include <utility>
#include <vector>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/machine/cpu.h"
#include "src/machine/memory.h"
#include "src/machine/thread_team.h"
#include "src/machine/topology.h"

namespace octet {
namespace {

TEST(Cpu, RefusesWhatIsUnknownOrMissing) {
  EXPECT_EQ(resolve_isa(""), best_isa());
  EXPECT_TRUE(cpu_supports(best_isa()));
  if (cpu_supports(Isa::kAmx)) {
    EXPECT_EQ(best_isa(), Isa::kAmx);
  }
  EXPECT_EQ(resolve_isa("ref"), Isa::kRef);
  EXPECT_THROW(resolve_isa("sse9"), Error);
  for (Isa isa : {Isa::kAvx2, Isa::kAvxVnni, Isa::kAvx512Vnni, Isa::kAmx})
    if (!cpu_supports(isa)) {
      EXPECT_THROW(resolve_isa(isa_name(isa)), Error);
    }
}

TEST(Topology, ReadsTheSmallestQuotaOfTheHierarchy) {
  const fs::path root = fs::path(testing::TempDir()) / ("cg" + std::to_string(::getpid()));
  fs::create_directories(root / "a/b");
  write_text(root / "self", "0::/a/b\n");
  write_text(root / "a/cpu.max", "150000 100000\n");
  write_text(root / "a/b/cpu.max", "max 100000\n");
  EXPECT_DOUBLE_EQ(cgroup_cpu_limit(root, root / "self").value(), 1.5);
  write_text(root / "a/cpu.max", "max 100000\n");
  EXPECT_FALSE(cgroup_cpu_limit(root, root / "self").has_value());
  fs::remove_all(root);
}

TEST(Topology, MemoryThatIsLeft) {
  const fs::path root = fs::path(testing::TempDir()) / "octet_memory_test";
  fs::create_directories(root / "a/b");
  write_text(root / "self", "0::/a/b\n");
  write_text(root / "meminfo", "MemTotal:  9000 kB\nMemFree: 1 kB\nMemAvailable:    4000 kB\n");
  const auto left = [&] { return available_memory_bytes(root, root / "self", root / "meminfo"); };
  EXPECT_EQ(left(), uint64_t{4000} * 1024);
  write_text(root / "a/memory.max", "1000000\n");
  write_text(root / "a/memory.current", "700000\n");
  write_text(root / "a/memory.stat", "anon 500000\nfile 200000\n");
  write_text(root / "a/b/memory.max", "max\n");
  EXPECT_EQ(left(), 500000u);
  fs::remove_all(root);
  EXPECT_GT(available_memory_bytes(), uint64_t{1} << 20);
}

TEST(Topology, CountsAtLeastOneCpu) {
  EXPECT_GE(allowed_cpus().size(), allowed_cores());
  EXPECT_GE(allowed_cores(), 1u);
  EXPECT_GT(memory_limit_bytes(), uint64_t{1} << 20);
}

// In a thread each, to which the mask belongs.
TEST(Topology, PartsOfTheCoresAreDisjointAndAll) {
  const std::vector<int> all = allowed_cpus();
  for (size_t parts : {size_t{1}, size_t{2}, 3 * allowed_cores()}) {
    std::map<int, size_t> times;  // that a CPU is in a part
    for (size_t part = 0; part < parts; ++part)
      std::thread([&] {
        keep_to_cores(part, parts);
        EXPECT_GE(usable_cores(), 1u);
        for (int cpu : allowed_cpus()) ++times[cpu];
      }).join();
    EXPECT_EQ(times.size(), all.size());
    for (const auto& [cpu, n] : times) EXPECT_EQ(n, std::max(parts / allowed_cores(), size_t{1}));
  }
}

TEST(Buffer, SmallOnesShareNothingButPages) {
  const auto sizes = [](size_t i) { return 60'000 + 7919 * (i % 130); };  // to both sides of a half
  std::vector<std::pair<Buffer<uint8_t>, uint8_t>> buffers;               // with what fills them
  for (size_t turn = 0; turn < 3; ++turn) {
    for (size_t i = 0; i < 200; ++i) {
      Buffer<uint8_t> b(sizes(i));
      EXPECT_EQ(std::count(b.data(), b.data() + b.size(), 0), static_cast<ptrdiff_t>(b.size()));
      const auto value = static_cast<uint8_t>(i + 1);
      std::fill_n(b.data(), b.size(), value);
      buffers.emplace_back(std::move(b), value);
    }
    for (const auto& [b, value] : buffers) {
      EXPECT_EQ(std::count(b.data(), b.data() + b.size(), value), static_cast<ptrdiff_t>(b.size()));
    }
    std::erase_if(buffers, [n = 0](const auto&) mutable { return ++n % 3 != 0; });
  }
}

// Bytes of this process that are in memory.
size_t resident_bytes() {
  std::ifstream statm("/proc/self/statm");
  size_t all = 0, resident = 0;
  statm >> all >> resident;
  return resident * static_cast<size_t>(::sysconf(_SC_PAGESIZE));
}

// A layer of a model has many matrices a little larger than whole huge pages: the last one is not
// to be a huge one, too.
TEST(Buffer, LargeOnesTakeLittleMoreThanTheirSize) {
  constexpr size_t kHuge = size_t{2} << 20, kSize = 2 * kHuge + kHuge / 8, kCount = 8;
  const size_t before = resident_bytes();
  std::vector<Buffer<uint8_t>> buffers;
  for (size_t i = 0; i < kCount; ++i) {
    buffers.emplace_back(kSize);
    std::fill_n(buffers.back().data(), kSize, uint8_t{1});
  }
  const size_t taken = resident_bytes() - before;
  EXPECT_GT(taken, kCount * (kSize - kHuge / 8));
  EXPECT_LT(taken, kCount * (kSize + kHuge / 4));  // huge ends would take 7/8 of a page more
}

TEST(Buffer, IsZeroedAlignedAndMovable) {
  Buffer<float> a(3'000'000);
  EXPECT_EQ(reinterpret_cast<size_t>(a.data()) % 4096, 0u);
  EXPECT_EQ(a[2'999'999], 0.0f);
  a[5] = 1;
  Buffer<float> b = std::move(a);
  EXPECT_EQ(b[5], 1.0f);
  EXPECT_EQ(a.size(), 0u);  // NOLINT(bugprone-use-after-move): what is left is tested
  b.ensure(10);
  EXPECT_EQ(b[5], 1.0f);
}

TEST(ThreadTeam, SharesCoverTheRangeOnce) {
  ThreadTeam team(3);
  for (size_t n : {0u, 1u, 7u, 64u, 1000u}) {
    std::vector<std::atomic<int>> hits(n);
    team.run([&](Worker& w) {
      const auto [begin, end] = w.share(n, 16);
      for (size_t i = begin; i < end; ++i) hits[i]++;
    });
    for (auto& h : hits) EXPECT_EQ(h, 1);
  }
}

// Over-subscribed on purpose (more threads than this machine has CPUs): must finish, and a barrier
// must separate the phases.
TEST(ThreadTeam, BarrierSeparatesPhases) {
  const size_t n = 4 * allowed_cpus().size();
  ThreadTeam team(n);
  for (int round = 0; round < 50; ++round) {
    std::atomic<size_t> before{0};
    std::atomic<bool> wrong{false};
    team.run([&](Worker& w) {
      for (size_t phase = 1; phase <= 4; ++phase) {
        before++;
        w.barrier();
        if (before != phase * n) wrong = true;
        w.barrier();
      }
    });
    EXPECT_FALSE(wrong);
  }
}

// Whoever throws, before, between or behind barriers: the caller gets it, nobody waits for ever,
// and the team works on.
TEST(ThreadTeam, WhatAWorkerThrowsReachesTheCaller) {
  ThreadTeam team(3);
  for (int round = 0; round < 50; ++round)
    for (size_t thrower = 0; thrower < 3; ++thrower)
      for (int phase = 0; phase < 3; ++phase) {
        const auto failing = [&](Worker& w) {
          for (int p = 0; p < 3; ++p) {
            if (p == phase && w.id() == thrower) throw std::runtime_error("worker");
            w.barrier();
          }
        };
        EXPECT_THROW(team.run(failing), std::runtime_error);
        std::atomic<size_t> done{0};
        team.run([&](Worker& w) {
          w.barrier();
          done++;
          w.barrier();
          EXPECT_EQ(done, 3u);
        });
      }
}

TEST(ThreadTeam, OneErrorOfManyReachesTheCaller) {
  ThreadTeam team(3);
  EXPECT_THROW(team.run([](Worker& w) { throw std::runtime_error(std::to_string(w.id())); }),
               std::runtime_error);
  EXPECT_NO_THROW(team.run([](Worker& w) { w.barrier(); }));
}

}  // namespace
}  // namespace octet
