// The journal of an interrupted quantization, its checksum put right, so that what is behind it is
// read.
#include "src/quant/output/journal.h"

#include <cstring>

#include "fuzz/in_folder.h"
#include "src/base/error.h"
#include "src/base/hash.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const octet::fuzz::Folder folder;
  const auto out = folder / "out", partial = folder / "out.partial";
  std::filesystem::create_directories(partial / "files");
  octet::write_text(partial / "lock", "");
  std::string all(sizeof(uint64_t), '\0');
  all.append(reinterpret_cast<const char*>(data), size);
  const uint64_t sum = octet::fnv1a(std::string_view(all).substr(sizeof sum));
  std::memcpy(all.data(), &sum, sizeof sum);
  octet::write_text(partial / "journal", all);
  try {
    const octet::OutputFolder output(out, /*overwrite=*/false, /*resume=*/true);
    octet::Journal journal(output, {{"a", "b"}});
    std::vector<float> states(8);
    journal.resume(octet::Pass::kMeasure, {states});
    journal.resume(octet::Pass::kQuantize, {states});
    journal.get<std::string>("report");
  } catch (const octet::Error&) {
  }
  return 0;
}
