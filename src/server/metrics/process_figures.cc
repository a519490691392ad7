#include "src/server/metrics/process_figures.h"

#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace octet::server {
namespace {

prometheus::Gauge& gauge(prometheus::Registry& registry, const char* name, const char* help) {
  return prometheus::BuildGauge().Name(name).Help(help).Register(registry).Add({});
}

double seconds(const timeval& t) {
  return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) * 1e-6;
}

}  // namespace

ProcessFigures::ProcessFigures(prometheus::Registry& registry)
    : cpu_seconds_(prometheus::BuildCounter()
                       .Name("process_cpu_seconds_total")
                       .Help("User and system CPU time.")
                       .Register(registry)
                       .Add({})),
      resident_bytes_(gauge(registry, "process_resident_memory_bytes", "Resident memory.")),
      open_files_(gauge(registry, "process_open_fds", "Open file descriptors.")),
      start_time_(gauge(registry, "process_start_time_seconds", "Start, in Unix seconds.")) {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  start_time_.Set(std::chrono::duration<double>(now).count());
}

void ProcessFigures::update() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  cpu_seconds_.Increment(seconds(usage.ru_utime) + seconds(usage.ru_stime) - cpu_seconds_.Value());
  std::ifstream statm("/proc/self/statm");
  if (double size = 0, resident = 0; statm >> size >> resident)
    resident_bytes_.Set(resident * static_cast<double>(::sysconf(_SC_PAGESIZE)));
  std::error_code ec;
  const std::filesystem::directory_iterator files("/proc/self/fd", ec);
  if (!ec) open_files_.Set(static_cast<double>(std::distance(begin(files), end(files))));
}

}  // namespace octet::server
