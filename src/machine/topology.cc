#include "src/machine/topology.h"

#include <hwloc.h>
#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <map>
#include <memory>
#include <set>
#include <sstream>

#include "src/base/error.h"

namespace octet {
namespace {

size_t sharers = 1;  // of the control group's time

struct TopologyDeleter {
  void operator()(hwloc_topology* t) const { hwloc_topology_destroy(t); }
};
using Topology = std::unique_ptr<hwloc_topology, TopologyDeleter>;

Topology load_topology() {
  hwloc_topology_t t = nullptr;
  if (hwloc_topology_init(&t) != 0) return nullptr;
  Topology owned(t);
  return hwloc_topology_load(t) == 0 ? std::move(owned) : nullptr;
}

std::vector<int> affinity_cpus() {
  std::vector<int> cpus;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) == 0)
    for (int c = 0; c < CPU_SETSIZE; ++c)
      if (CPU_ISSET(static_cast<size_t>(c), &set)) cpus.push_back(c);
  if (cpus.empty()) cpus.push_back(0);
  return cpus;
}

// Logical index of the core that holds CPU `cpu`, or -1 without topology.
int core_of(hwloc_topology* t, int cpu) {
  if (t == nullptr) return -1;
  hwloc_obj_t pu = hwloc_get_pu_obj_by_os_index(t, static_cast<unsigned>(cpu));
  hwloc_obj_t core = pu ? hwloc_get_ancestor_obj_by_type(t, HWLOC_OBJ_CORE, pu) : nullptr;
  return core ? static_cast<int>(core->logical_index) : -1;
}

std::string first_line(const std::string& path) {
  std::ifstream in(path);
  std::string line;
  std::getline(in, line);
  return line;
}

// The path of this process's group in the unified hierarchy ("0::/path").
std::string cgroup_path(const std::string& self) {
  std::ifstream in(self);
  for (std::string line; std::getline(in, line);)
    if (line.starts_with("0::")) return line.substr(3);
  return "/";
}

}  // namespace

std::vector<int> allowed_cpus() {
  const Topology t = load_topology();
  std::vector<int> first, siblings;
  std::set<int> seen;
  for (int cpu : affinity_cpus()) {
    const int core = core_of(t.get(), cpu);
    if (core < 0 || seen.insert(core).second)
      first.push_back(cpu);
    else
      siblings.push_back(cpu);
  }
  first.insert(first.end(), siblings.begin(), siblings.end());
  return first;
}

void keep_to_cores(size_t part, size_t parts) {
  const Topology t = load_topology();
  std::map<int, std::vector<int>> cores;  // by their place in the machine
  for (int cpu : affinity_cpus()) {
    const int core = core_of(t.get(), cpu);
    cores[core < 0 ? cpu : core].push_back(cpu);
  }
  const size_t first = cores.size() * part / parts;
  const size_t last = std::max(first + 1, cores.size() * (part + 1) / parts);
  cpu_set_t set;
  CPU_ZERO(&set);
  size_t index = 0;
  for (const auto& [place, cpus] : cores) {
    if (index >= first && index < last)
      for (int cpu : cpus) CPU_SET(static_cast<size_t>(cpu), &set);
    ++index;
  }
  ::sched_setaffinity(0, sizeof(set), &set);
}

size_t allowed_cores() {
  const Topology t = load_topology();
  std::set<int> cores;
  size_t unknown = 0;
  for (int cpu : affinity_cpus()) {
    const int core = core_of(t.get(), cpu);
    if (core < 0)
      ++unknown;
    else
      cores.insert(core);
  }
  return cores.size() + unknown;
}

void share_cpu_time(size_t processes) { sharers = processes; }

size_t machine_cores() {
  const Topology t = load_topology();
  const int cores = t == nullptr ? 0 : hwloc_get_nbobjs_by_type(t.get(), HWLOC_OBJ_CORE);
  return cores > 0 ? static_cast<size_t>(cores) : allowed_cores();
}

size_t numa_nodes() {
  const Topology t = load_topology();
  if (t == nullptr) return 1;
  const std::vector<int> cpus = affinity_cpus();
  size_t nodes = 0;
  for (hwloc_obj_t node = nullptr;
       (node = hwloc_get_next_obj_by_type(t.get(), HWLOC_OBJ_NUMANODE, node)) != nullptr;)
    nodes += std::ranges::any_of(cpus, [&](int cpu) {
      return hwloc_bitmap_isset(node->cpuset, static_cast<unsigned>(cpu)) != 0;
    });
  return std::max<size_t>(nodes, 1);
}

std::optional<double> cpu_share() {
  std::optional<double> limit = cgroup_cpu_limit();
  if (limit) *limit /= static_cast<double>(sharers);
  return limit;
}

size_t usable_cores() {
  const size_t cores = allowed_cores();
  const auto share = cpu_share();
  return share ? std::min(cores, static_cast<size_t>(std::max(1.0, std::ceil(*share)))) : cores;
}

std::optional<double> cgroup_cpu_limit(const std::string& root, const std::string& self) {
  std::optional<double> limit;
  // Version 2: every ancestor may set cpu.max; the smallest counts.
  for (std::string path = cgroup_path(self);;) {
    std::istringstream in(first_line(root + path + "/cpu.max"));
    std::string quota;
    double period = 0;
    if (in >> quota >> period && quota != "max" && period > 0) {
      const double cpus = std::atof(quota.c_str()) / period;
      if (cpus > 0) limit = std::min(limit.value_or(cpus), cpus);
    }
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos || path.empty()) break;
    path.erase(slash);
  }
  if (limit) return limit;
  const double quota = std::atof(first_line(root + "/cpu/cpu.cfs_quota_us").c_str());  // version 1
  const double period = std::atof(first_line(root + "/cpu/cpu.cfs_period_us").c_str());
  if (quota > 0 && period > 0) return quota / period;
  return std::nullopt;
}

uint64_t memory_limit_bytes() {
  uint64_t bytes = static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) *
                   static_cast<uint64_t>(::sysconf(_SC_PAGE_SIZE));
  const auto apply = [&](const std::string& file) {
    const std::string line = first_line(file);
    uint64_t limit = 0;
    if (std::from_chars(line.data(), line.data() + line.size(), limit).ec == std::errc() &&
        limit > 0)
      bytes = std::min(bytes, limit);
  };
  const std::string root = "/sys/fs/cgroup";
  for (std::string path = cgroup_path("/proc/self/cgroup");;) {  // version 2: every ancestor counts
    apply(root + path + "/memory.max");
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos || path.empty()) break;
    path.erase(slash);
  }
  apply(root + "/memory/memory.limit_in_bytes");  // version 1
  return bytes;
}

uint64_t available_memory_bytes(const std::string& root, const std::string& self,
                                const std::string& meminfo) {
  // "NAME NUMBER" on a line of `file`.
  const auto field = [](const std::string& file, const std::string& name) {
    std::ifstream in(file);
    std::string key;
    for (uint64_t value = 0; in >> key; in.ignore(1 << 10, '\n'))
      if (key == name && in >> value) return value;
    return uint64_t{0};
  };
  const auto number = [](const std::string& file) {
    return std::strtoull(first_line(file).c_str(), nullptr, 10);  // "max" and no file: zero
  };
  uint64_t bytes = field(meminfo, "MemAvailable:") * 1024;
  if (bytes == 0) bytes = memory_limit_bytes();
  for (std::string path = cgroup_path(self);;) {  // version 2: every ancestor counts
    const std::string group = root + path;
    if (const uint64_t limit = number(group + "/memory.max"); limit > 0) {
      const uint64_t cache = field(group + "/memory.stat", "file");
      const uint64_t used = number(group + "/memory.current");
      const uint64_t held = used > cache ? used - cache : 0;
      bytes = std::min(bytes, limit > held ? limit - held : 0);
    }
    const size_t slash = path.rfind('/');
    if (slash == std::string::npos || path.empty()) break;
    path.erase(slash);
  }
  return bytes;
}

size_t default_thread_count() {
  if (const char* env = std::getenv("OCTET_THREADS"); env != nullptr && *env != '\0') {
    size_t n = 0;
    const auto [end, ec] = std::from_chars(env, env + std::strlen(env), n);
    if (ec != std::errc() || *end != '\0' || n < 1 || n > 1024)
      throw usage_error(std::string("OCTET_THREADS=") + env + " is not a number from 1 to 1024");
    return n;
  }
  return usable_cores();
}

}  // namespace octet
