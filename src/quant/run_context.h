// What a quantization works with, besides its model, text and options.
#pragma once

#include "src/base/output_folder.h"
#include "src/machine/thread_team.h"
#include "src/quant/activations.h"
#include "src/quant/journal.h"
#include "src/quant/report_data.h"

namespace octet {

struct RunContext {
  OutputFolder& output;  // the caller commits it
  Journal& journal;      // of `output`; both passes go on where it says
  ActivationMemory& memory;
  ReportData* report;  // is told of every linear; null for none
  ThreadTeam& team;
};

}  // namespace octet
