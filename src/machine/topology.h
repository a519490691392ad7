// How many threads to use and on which CPUs: affinity mask, cgroup quota, one thread a core.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace octet {

// The CPU numbers this process may run on, ordered so that the first thread of each core comes
// before its SMT siblings.
std::vector<int> allowed_cpus();
// Restricts this process to part `part` of `parts` of its cores, in the order in which they lie in
// the machine, so that parts are as near together as they can be. With more parts than cores some
// share one.
void keep_to_cores(size_t part, size_t parts);
// So many processes share the control group's time: cpu_share() is this one's part.
void share_cpu_time(size_t processes);
// Physical cores among allowed_cpus(), and in the machine (or in what the container sees of it).
size_t allowed_cores();
size_t machine_cores();
// Parts of the machine with memory of their own that have CPUs of allowed_cpus().
size_t numa_nodes();
// CPUs' worth of time that the control group grants (2.5 = two and a half), or nothing when
// unlimited. `root` is the mount point, for tests.
std::optional<double> cgroup_cpu_limit(const std::string& root = "/sys/fs/cgroup",
                                       const std::string& self = "/proc/self/cgroup");
// This process's part of that: all, or as share_cpu_time() says.
std::optional<double> cpu_share();
// What can run at once: allowed cores, within cpu_share().
size_t usable_cores();
// Bytes of memory this process may use: the cgroup's limit or the machine's memory.
uint64_t memory_limit_bytes();
// Of that, what is not in use: the machine's available memory, or what its cgroup has left. Page
// cache counts as free. `root`, `self` as above, `meminfo` for tests.
uint64_t available_memory_bytes(const std::string& root = "/sys/fs/cgroup",
                                const std::string& self = "/proc/self/cgroup",
                                const std::string& meminfo = "/proc/meminfo");

// The team's size: OCTET_THREADS (kUsage Error unless 1..1024), else usable_cores().
size_t default_thread_count();

}  // namespace octet
