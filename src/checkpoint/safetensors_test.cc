#include "src/checkpoint/safetensors.h"

#include <gmock/gmock.h>

#include "src/base/json.h"
#include "src/checkpoint/testing.h"

namespace octet {
namespace {

using octet::tests::message_of;
using octet::tests::TempFolder;
using octet::tests::write_raw_safetensors;
using ::testing::HasSubstr;

std::vector<TensorSpec> two() { return {{"a", DType::kF32, {2}}, {"b", DType::kI8, {3, 1}}}; }

void write_two(const fs::path& folder, WriterOptions options) {
  SafetensorsWriter w(folder, two(), options);
  w.write("a", std::vector<float>{1.5f, -2});
  w.write("b", std::vector<int8_t>{1, 2, 3});
  w.finish();
}

TEST(Safetensors, ReadsWhatItWrote) {
  const TempFolder dir("st_roundtrip");
  write_two(dir.path(), {});
  const SafetensorsFile f(dir / "model.safetensors");
  ASSERT_EQ(f.tensors().size(), 2u);
  EXPECT_EQ(f.tensors()[0].floats(), (std::vector<float>{1.5f, -2}));
  EXPECT_EQ(f.tensors()[1].dtype, DType::kI8);
  EXPECT_EQ(f.tensors()[1].shape, (Shape{3, 1}));
  EXPECT_EQ(f.metadata().at("format"), "pt");
}

TEST(Safetensors, GoesOnWhereAnInterruptedWriterWas) {
  for (const uint64_t part_bytes : {uint64_t{0}, uint64_t{10}}) {
    const TempFolder whole("st_whole"), dir("st_resumed");
    WriterOptions options;
    options.part_bytes = part_bytes;
    write_two(whole.path(), options);
    for (const size_t next : {0, 1, 2}) {
      {
        SafetensorsWriter w(dir.path(), two(), options);
        w.write("a", std::vector<float>{1.5f, -2});
        w.append("b", std::as_bytes(std::span("x", 1)));  // no more of it is to be trusted
        if (next == 2) w.append("b", std::as_bytes(std::span("yz", 2)));
      }
      SafetensorsWriter w(dir.path(), two(), options);
      w.resume_at(next);
      if (next == 0) w.write("a", std::vector<float>{1.5f, -2});
      if (next < 2) w.write("b", std::vector<int8_t>{1, 2, 3});
      w.finish();
      for (const auto& entry : fs::directory_iterator(whole.path())) {
        const std::string want = read_text(entry.path());
        const std::string got = read_text(dir / entry.path().filename().string());
        EXPECT_EQ(want.size(), got.size());
        if (next < 2) {
          EXPECT_EQ(want, got) << entry.path();
        }
      }
    }
  }
}

TEST(Safetensors, DoesNotGoOnWithFilesThatWereCut) {
  const TempFolder dir("st_cut");
  write_two(dir.path(), {});
  fs::resize_file(dir / "model.safetensors", 20);
  EXPECT_THROW(SafetensorsWriter(dir.path(), two(), {}).resume_at(1), Error);
}

TEST(Safetensors, ShardsBySizeWithAnIndex) {
  const TempFolder dir("st_shards");
  WriterOptions options;
  options.stem = "quant_model_weight_w8a8";
  options.part_bytes = 10;
  write_two(dir.path(), options);  // 8 bytes pending + 3 >= 10
  EXPECT_TRUE(fs::exists(dir / "quant_model_weight_w8a8-00001-of-00002.safetensors"));
  const json index =
      parse_json(read_text(dir / "quant_model_weight_w8a8.safetensors.index.json"), "index");
  EXPECT_EQ(index["weight_map"]["b"], "quant_model_weight_w8a8-00002-of-00002.safetensors");
  EXPECT_EQ(index["metadata"]["total_size"], 11);
  const TensorStore store(dir.path());
  EXPECT_EQ(store.files().size(), 2u);
  EXPECT_EQ(store.total_bytes(), 11u);
  EXPECT_EQ(store.get("a").floats()[1], -2);
  EXPECT_THAT(message_of([&] { store.get("c"); }), HasSubstr("c"));
}

// Every way in which a file can be wrong, and a word that the message must hold.
struct Broken {
  const char* name;
  std::string header, data, word;
  int64_t length = -1;
};

class BrokenFile : public ::testing::TestWithParam<Broken> {};

TEST_P(BrokenFile, IsRefusedByName) {
  const TempFolder dir(std::string("st_broken_") + GetParam().name);
  const fs::path path = dir / "model.safetensors";
  write_raw_safetensors(path, GetParam().header, GetParam().data, GetParam().length);
  const std::string message = message_of([&] { SafetensorsFile{path}; });
  EXPECT_THAT(message, HasSubstr(GetParam().word));
  EXPECT_THAT(message, HasSubstr("model.safetensors"));
}

std::string entry(const std::string& rest) { return R"({"t": {)" + rest + "}}"; }

INSTANTIATE_TEST_SUITE_P(
    All, BrokenFile,
    ::testing::Values(
        Broken{"header_longer_than_file", "{}", "", "header length", 3},
        Broken{"header_huge", "{}", "", "header length", INT64_MAX},
        Broken{"no_json", "abcd", "", "no JSON header"},
        Broken{"broken_json", "{\"a\": ", "", "model.safetensors"},
        Broken{
            "double_name",
            R"({"t": {"dtype":"I8","shape":[1],"data_offsets":[0,1]}, "t": {"dtype":"I8","shape":[1],"data_offsets":[0,1]}})",
            "x", "occurs twice"},
        Broken{"entry_no_object", R"({"t": 3})", "", "no object"},
        Broken{"no_dtype", entry(R"("shape":[1],"data_offsets":[0,1])"), "x", "dtype"},
        Broken{"unknown_dtype", entry(R"("dtype":"Q9","shape":[1],"data_offsets":[0,1])"), "x",
               "Q9"},
        Broken{"negative_shape", entry(R"("dtype":"I8","shape":[-1],"data_offsets":[0,1])"), "x",
               "shape"},
        Broken{"float_shape", entry(R"("dtype":"I8","shape":[1.0],"data_offsets":[0,1])"), "x",
               "shape"},
        Broken{"shape_overflow",
               entry(R"("dtype":"F32","shape":[4294967296,4294967296,2],"data_offsets":[0,4])"),
               "xxxx", "overflows"},
        Broken{"size_overflow",
               entry(R"("dtype":"F64","shape":[4611686018427387904],"data_offsets":[0,4])"), "xxxx",
               "overflows"},
        Broken{"beyond_data", entry(R"("dtype":"I8","shape":[2],"data_offsets":[0,2])"), "x",
               "outside the file"},
        Broken{"end_before_begin", entry(R"("dtype":"I8","shape":[1],"data_offsets":[1,0])"), "x",
               "outside the file"},
        Broken{"three_offsets", entry(R"("dtype":"I8","shape":[1],"data_offsets":[0,1,2])"), "x",
               "data_offsets"},
        Broken{"wrong_size", entry(R"("dtype":"F32","shape":[1],"data_offsets":[0,2])"), "xx",
               "disagree"},
        Broken{"bytes_left", entry(R"("dtype":"I8","shape":[1],"data_offsets":[0,1])"), "xy",
               "after the last tensor"},
        Broken{"hole", entry(R"("dtype":"I8","shape":[1],"data_offsets":[1,2])"), "xy", "hole"},
        Broken{
            "overlap",
            R"({"a": {"dtype":"I8","shape":[2],"data_offsets":[0,2]}, "b": {"dtype":"I8","shape":[2],"data_offsets":[1,3]}})",
            "xyz", "overlaps"},
        Broken{"nine_dimensions",
               entry(R"("dtype":"I8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1])"), "x",
               "shape"}),
    [](const auto& c) { return std::string(c.param.name); });

TEST(Safetensors, GitLfsPointersAreNamed) {
  const TempFolder dir("st_lfs");
  write_text(dir / "model.safetensors",
             "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 4976698672\n");
  EXPECT_THAT(message_of([&] { SafetensorsFile{dir / "model.safetensors"}; }),
              HasSubstr("git lfs pull"));
}

TEST(Safetensors, TinyFilesAreRefused) {
  const TempFolder dir("st_tiny");
  write_text(dir / "model.safetensors", "");
  EXPECT_THAT(message_of([&] { SafetensorsFile{dir / "model.safetensors"}; }),
              HasSubstr("0 bytes"));
  write_text(dir / "model.safetensors", "1234567");
  EXPECT_THAT(message_of([&] { SafetensorsFile{dir / "model.safetensors"}; }),
              HasSubstr("7 bytes"));
  EXPECT_THAT(message_of([&] { SafetensorsFile{dir / "none.safetensors"}; }),
              HasSubstr("none.safetensors"));
}

// A file cut at any place never reads out of bounds and is always refused.
TEST(Safetensors, EveryCutIsRefused) {
  const TempFolder dir("st_cut");
  write_two(dir.path(), {});
  const std::string whole = read_text(dir / "model.safetensors");
  for (size_t size = 0; size < whole.size(); ++size) {
    write_text(dir / "cut.safetensors", whole.substr(0, size));
    EXPECT_THROW(SafetensorsFile{dir / "cut.safetensors"}, Error) << size;
  }
}

TEST(Safetensors, IndexMayOnlyNamePlainFiles) {
  const TempFolder dir("st_index");
  write_two(dir.path(), {});
  for (const char* name :
       {"../model.safetensors", "/etc/passwd", "..", "sub/model.safetensors", ""}) {
    write_text(dir / "model.safetensors.index.json",
               ordered_json{{"weight_map", {{"a", name}}}}.dump());
    EXPECT_THAT(message_of([&] { TensorStore{dir.path()}; }), HasSubstr("plain")) << name;
  }
}

TEST(Safetensors, IndexEntriesWithoutATensorAreListed) {
  const TempFolder dir("st_unstored");
  write_two(dir.path(), {});
  write_text(dir / "model.safetensors.index.json",
             ordered_json{{"weight_map", {{"missing", "model.safetensors"}}}}.dump());
  const TensorStore store(dir.path());
  EXPECT_EQ(store.unstored(), std::vector<std::string>{"missing"});
  EXPECT_EQ(store.all().size(), 2u);
}

// A small file with changed tensors beside the shards, as some trainers leave it.
TEST(Safetensors, AFileThatTheIndexNamesOverlaysTheOthers) {
  const TempFolder dir("st_overlay");
  write_two(dir.path(), {});
  SafetensorsWriter w(dir.path(), {{"a", DType::kF32, {2}}}, {.stem = "model-overlay"});
  w.write("a", std::vector<float>{7, 8});
  w.finish();
  fs::rename(dir / "model.safetensors", dir / "model-00001-of-00001.safetensors");
  const auto index = [&](const char* file_of_a) {
    write_text(dir / "model.safetensors.index.json",
               ordered_json{{"weight_map",
                             {{"a", file_of_a},
                              {"b", "model-00001-of-00001.safetensors"},
                              {"other", "model-overlay.safetensors"}}}}
                   .dump());
  };
  index("model-overlay.safetensors");
  const TensorStore store(dir.path());
  EXPECT_EQ(store.get("a").floats(), (std::vector<float>{7, 8}));
  ASSERT_EQ(store.all().size(), 2u);
  EXPECT_EQ(store.all()[0], &store.get("a"));
  EXPECT_EQ(store.total_bytes(), 11u);
  // transformers would take the overlay's, the index says the other.
  index("model-00001-of-00001.safetensors");
  EXPECT_THAT(message_of([&] { TensorStore{dir.path()}; }), HasSubstr("two files"));
}

TEST(Safetensors, MetadataMayBeNull) {
  const TempFolder dir("st_null");
  write_raw_safetensors(
      dir / "model.safetensors",
      R"({"__metadata__":null,"a":{"dtype":"I8","shape":[1],"data_offsets":[0,1]}})", "x");
  EXPECT_EQ(SafetensorsFile(dir / "model.safetensors").tensors().size(), 1u);
}

TEST(Safetensors, IndexMustNameTheRightFile) {
  const TempFolder dir("st_permuted");
  WriterOptions options;
  options.part_bytes = 10;
  write_two(dir.path(), options);
  const std::string one = "model-00001-of-00002.safetensors",
                    two = "model-00002-of-00002.safetensors";
  write_text(dir / "model.safetensors.index.json",
             ordered_json{{"weight_map", {{"a", two}, {"b", one}}}}.dump());
  EXPECT_THAT(message_of([&] { TensorStore{dir.path()}; }), HasSubstr("its file lacks"));
}

TEST(Safetensors, OneTensorInTwoFilesIsRefused) {
  const TempFolder dir("st_double");
  write_two(dir.path(), {});
  fs::copy_file(dir / "model.safetensors", dir / "other.safetensors");
  EXPECT_THAT(message_of([&] { TensorStore{dir.path()}; }), HasSubstr("two files"));
}

}  // namespace
}  // namespace octet
