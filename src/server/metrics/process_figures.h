// What the machine says of this process, as Prometheus clients report it.
#pragma once

#include <prometheus/registry.h>

namespace prometheus {
class Counter;
class Gauge;
}  // namespace prometheus

namespace octet::server {

class ProcessFigures {
 public:
  explicit ProcessFigures(prometheus::Registry& registry);
  void update();

 private:
  prometheus::Counter& cpu_seconds_;
  prometheus::Gauge& resident_bytes_;
  prometheus::Gauge& open_files_;
  prometheus::Gauge& start_time_;  // Unix seconds
};

}  // namespace octet::server
