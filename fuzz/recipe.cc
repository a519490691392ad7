#include "src/quant/settings/recipe.h"

#include "src/base/error.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  try {
    const octet::Recipe recipe =
        octet::parse_recipe(std::string(reinterpret_cast<const char*>(data), size), "fuzz");
    octet::parse_recipe(octet::to_yaml(recipe), "written");
  } catch (const octet::Error&) {
  }
  return 0;
}
