// Names of description files. (What stands in them: check_test.cc.)
#include "src/checkpoint/quant_description.h"

#include <gtest/gtest.h>

#include <set>

#include "src/checkpoint/testing.h"

namespace octet {
namespace {

// Those of docs/formats.md and of msModelSlim's types that Octet only refuses; a name may stand in
// front.
TEST(DescriptionFiles, AreFoundByTheirNames) {
  const tests::TempFolder dir("description_files");
  const std::set<std::string> names = {
      "quant_model_description.json",          "quant_model_description_w8a8.json",
      "quant_model_description_w8a8_mix.json", "quant_model_description_w8a8_dynamic.json",
      "quant_model_description_w8a16.json",    "quant_model_description_w8a8s.json",
      "quant_model_description_w8a8sc.json",   "my_quant_model_description.json"};
  for (const std::string& name : names) write_text(dir / name, "{}");
  for (const char* other : {"config.json", "quant_model_description_float.json",
                            "quant_model_description_w4a8.json", "quant_model_description.txt"})
    write_text(dir / other, "{}");
  std::set<std::string> found;
  for (const fs::path& file : description_files(dir.path())) found.insert(file.filename().string());
  EXPECT_EQ(found, names);
}

}  // namespace
}  // namespace octet
