// Two folders that differ in known ways, and a quantized one beside its float model.
#include "src/eval/compare.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "src/checkpoint/testing.h"

namespace octet {
namespace {

using Kind = TensorDifference::Kind;
using tests::kSources;

const TensorDifference& find(const Comparison& c, std::string_view name) {
  const auto it = std::find_if(c.tensors.begin(), c.tensors.end(),
                               [&](const TensorDifference& t) { return t.name == name; });
  EXPECT_NE(it, c.tensors.end()) << name;
  return *it;
}

// A folder of llama3_tiny_bf16's config and the tensors given, float32.
void write_folder(const octet::tests::TempFolder& dir, const std::string& data,
                  const std::string& header) {
  fs::copy_file(kSources / "models/llama3_tiny_bf16/config.json", dir / "config.json");
  octet::tests::write_raw_safetensors(dir / "model.safetensors", header, data);
}
std::string bytes_of(const std::vector<float>& v) {
  return {reinterpret_cast<const char*>(v.data()), 4 * v.size()};
}

TEST(Compare, NamesWhatDiffers) {
  octet::tests::TempFolder one("compare_a"), two("compare_b");
  write_folder(one, bytes_of({1, 2, 3, 4, 5, 6, 7}),
               R"({"model.layers.2.x.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
               R"("same":{"dtype":"F32","shape":[1],"data_offsets":[16,20]},)"
               R"("shaped":{"dtype":"F32","shape":[2],"data_offsets":[20,28]}})");
  write_folder(two, bytes_of({1, 2, 3, 4.5f, 5, 6, 7}),
               R"({"model.layers.2.x.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]},)"
               R"("same":{"dtype":"F32","shape":[1],"data_offsets":[16,20]},)"
               R"("shaped":{"dtype":"F32","shape":[1],"data_offsets":[20,24]},)"
               R"("new":{"dtype":"F32","shape":[1],"data_offsets":[24,28]}})");
  const ModelFolder a(one.path()), b(two.path());
  const Comparison c = compare_folders(a, b);
  EXPECT_FALSE(c.equal());
  EXPECT_TRUE(c.config.empty());
  EXPECT_EQ(find(c, "same").kind, Kind::kSame);
  EXPECT_EQ(find(c, "shaped").kind, Kind::kShape);
  EXPECT_EQ(find(c, "new").kind, Kind::kOnlyB);
  const TensorDifference& x = find(c, "model.layers.2.x.weight");
  ASSERT_EQ(x.kind, Kind::kValues);
  EXPECT_EQ(x.values->largest, 0.5);
  EXPECT_EQ(x.values->relative, 0.125);
  EXPECT_NEAR(*x.values->snr, 10 * std::log10(30 / 0.25), 1e-9);  // 1 + 4 + 9 + 16
  ASSERT_EQ(c.layers.size(), 1u);
  EXPECT_EQ(c.layers[0].layer, 2);
  EXPECT_EQ(c.layers[0].different, 1u);
  EXPECT_EQ(c.layers[0].lowest_name, x.name);
  EXPECT_TRUE(compare_folders(a, a).equal());
}

// A NaN is no number to subtract: largest would stay 0, and the values count as the same.
TEST(Compare, ValuesThatAreNotFiniteDiffer) {
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInf = std::numeric_limits<float>::infinity();
  static constexpr const char* kHeader =
      R"({"model.layers.0.x.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[0,16]}})";
  const auto kind_of = [&](const std::vector<float>& one, const std::vector<float>& two) {
    octet::tests::TempFolder dir_a("compare_nan_a"), dir_b("compare_nan_b");
    write_folder(dir_a, bytes_of(one), kHeader);
    write_folder(dir_b, bytes_of(two), kHeader);
    const ModelFolder a(dir_a.path()), b(dir_b.path());
    const Comparison c = compare_folders(a, b);
    const TensorDifference& x = find(c, "model.layers.0.x.weight");
    EXPECT_EQ(c.equal(), x.kind == Kind::kSame);
    EXPECT_EQ(x.values.has_value(), x.kind == Kind::kValues);
    EXPECT_FALSE(x.values && x.values->snr && !std::isfinite(*x.values->snr));
    EXPECT_NO_THROW(to_json(c).dump());
    return x.kind;
  };
  EXPECT_EQ(kind_of({1, 2, 3, 4}, {1, kNan, 3, 4}), Kind::kNotFinite);
  EXPECT_EQ(kind_of({1, kNan, 3, 4}, {1, 2, 3, 4}), Kind::kNotFinite);
  EXPECT_EQ(kind_of({1, kInf, 3, 4}, {1, 2, 3, 4}), Kind::kNotFinite);
  EXPECT_EQ(kind_of({1, kInf, 3, 4}, {1, -kInf, 3, 4}), Kind::kNotFinite);
  EXPECT_EQ(kind_of({1, kNan, 3, 4}, {1, kNan, 3, 4}), Kind::kSame);
  EXPECT_EQ(kind_of({1, kNan, 3, 4}, {1, kNan, 3, 5}), Kind::kValues);  // the rest differs
}

// Rows are rounded to steps of max|w| / 127, so errors are at most half of that (and a float16
// weight scale's rounding).
TEST(Compare, QuantizedWeightsCountWithTheirScales) {
  const fs::path golden = kSources / "tests/golden/llama_fp16";
  const ModelFolder reference(golden / "model");
  for (const char* name : {"minmax", "w8a8_dynamic", "w8a16", "w8a16_asym"}) {
    octet::tests::TempFolder dir(std::string("compare_") + name);
    octet::tests::copy_quantized(golden, name, dir);
    const ModelFolder quantized(dir.path());
    const Comparison c = compare_folders(reference, quantized);
    const TensorDifference& up = find(c, "model.layers.1.mlp.up_proj.weight");
    ASSERT_EQ(up.kind, Kind::kValues) << name;
    EXPECT_GT(*up.values->snr, 35) << name;
    EXPECT_LT(up.values->relative, 0.6 / 127) << name;
    EXPECT_EQ(find(c, "model.layers.1.mlp.up_proj.weight_scale").kind, Kind::kOnlyB) << name;
    EXPECT_TRUE(compare_folders(quantized, quantized).equal()) << name;
  }
}

}  // namespace
}  // namespace octet
