// amx.cc with every instruction of AMX and AVX-512 emulated, for tests: the set "amx_emulated".
#include "src/kernels/emulated/rename_avx512.h"
#include "src/kernels/emulated/tiles.h"

#undef _tile_zero
#undef _tile_loadd
#undef _tile_stream_loadd
#undef _tile_stored
#undef _tile_dpbusd
#undef _tile_dpbf16ps
#define _tile_loadconfig emulated::tile_loadconfig
#define _tile_release emulated::tile_release
#define _tile_zero emulated::tile_zero
#define _tile_loadd emulated::tile_loadd
#define _tile_stream_loadd emulated::tile_loadd
#define _tile_stored emulated::tile_stored
#define _tile_dpbusd emulated::tile_dpbusd
#define _tile_dpbf16ps emulated::tile_dpbf16ps
#define amx amx_emulated
#include "src/kernels/amx/amx.cc"

namespace octet::kernels::amx_emulated {

const KernelTable& emulated_table() noexcept {
  static const KernelTable t = emulated::named(table(), "amx_emulated");
  return t;
}

}  // namespace octet::kernels::amx_emulated
