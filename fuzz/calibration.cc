#include "fuzz/in_folder.h"
#include "src/base/error.h"
#include "src/quant/settings/calibration_data.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const octet::fuzz::Folder folder;
  const auto attempt = [](auto read, const auto&... arguments) {
    try {
      read(arguments...);
    } catch (const octet::Error&) {
    }
  };
  for (const char* name : {"c.jsonl", "c.json"}) {
    const auto file = folder.write(name, data, size);
    attempt(octet::read_calibration_texts, file);
    attempt(octet::read_calibration_texts_as_msmodelslim, file);
    attempt(octet::read_calibration_tokens, file);
    attempt(octet::read_outlier_texts, file, false);
    attempt(octet::read_outlier_texts, file, true);
  }
  return 0;
}
