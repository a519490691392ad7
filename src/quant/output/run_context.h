// What a quantization works with, besides its model, text and options.
#pragma once

#include "src/dist/communicator.h"
#include "src/machine/thread_team.h"
#include "src/quant/layer/activations.h"
#include "src/quant/output/journal.h"
#include "src/quant/output/report_data.h"

namespace octet {

struct RunContext {
  fs::path files;    // where the checkpoint goes; empty on all ranks but the first
  Journal& journal;  // both passes go on where it says
  ActivationMemory& memory;
  ReportData* report;  // gets every linear; null: no report is made
  ThreadTeam& team;
  // All take the same steps on the same data and share the long ones; the first writes.
  Communicator& ranks;
  bool quiet = false;  // no progress on stderr
};

}  // namespace octet
