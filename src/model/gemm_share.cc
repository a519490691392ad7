#include "src/model/gemm_share.h"

namespace octet {
namespace {

// About how many rows are not cut: all where whole panels give nobody more than 1.1 times the mean,
// or so many as do. Register tiles have 6 or 8 rows, AMX's 32.
size_t rows_of_unit(size_t workers, size_t panels, size_t m) {
  for (size_t rows : {m, size_t{192}, size_t{96}, size_t{48}, size_t{24}, size_t{12}})
    if (rows <= m) {
      const size_t units = panels * ((m + rows - 1) / rows);
      const size_t most = (units + workers - 1) / workers;
      // Parts of a panel may differ by a row.
      if (20 * most * workers <= (rows == m ? 22 : 21) * units) return rows;
    }
  return std::min(m, kLeastRows);
}

}  // namespace

// The units lie in a line, panel after panel, and every worker takes as long a piece of it.
GemmShare gemm_share(size_t id, size_t count, size_t panels, size_t m) {
  GemmShare share;
  if (m == 0 || panels == 0) return share;
  const size_t rows = count == 1 ? m : rows_of_unit(count, panels, m);
  const size_t units = (m + rows - 1) / rows;  // of a panel
  size_t at = panels * units * id / count;
  const size_t end = panels * units * (id + 1) / count;
  const auto row = [&](size_t unit) { return unit % units * m / units; };
  if (at < end && at % units != 0) {
    const size_t stop = std::min(end, (at / units + 1) * units);
    share.add({at / units, at / units + 1, row(at), stop % units == 0 ? m : row(stop)});
    at = stop;
  }
  if (end / units > at / units && at < end) {
    share.add({at / units, end / units, 0, m});
    at = end / units * units;
  }
  if (at < end) share.add({at / units, at / units + 1, 0, row(end)});
  return share;
}

GemmShare gemm_share(const Worker& w, size_t panels, size_t m) {
  return gemm_share(w.id(), w.count(), panels, m);
}

}  // namespace octet
