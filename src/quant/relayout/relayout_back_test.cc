// The way back gives the source's own bytes; nothing that has changed since is taken for them.
#include "src/quant/relayout/relayout_back.h"

#include <gmock/gmock.h>

#include "src/quant/relayout/relayout_testing.h"

namespace octet {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using tests::kTinyDown;
using tests::kTinyO;
using tests::kTinyQ;
using tests::TinyQuantized;

constexpr const char* kSourceRecord = "octet_source.json";
constexpr const char* kSourceTensors = "octet_source.tensors";

class WayBack : public tests::RelayoutTest {
 protected:
  WayBack() {
    model_.make_static_q();
    model_.set(tests::kTinyUp + ".weight", DType::kF16, {4, 2},
               tests::halves({1, 2, 3, 4, 5, 6, 7, 8}));
    model_.make_dynamic(kTinyDown, std::vector<int8_t>(8, 1), {0.25f, 0.125f});
  }
  // The model in `layout` as from(), and to() made of it.
  void convert(Layout layout, Layout other, uint64_t part_bytes = 0) {
    model_.write(from(), layout, part_bytes);
    const QuantizedSource source(from());
    tests::write_planned(plan_layout(source, other), to());
    keep_way_back(source, to());
  }
  LayoutPlan plan_back() {
    converted_.emplace(to());
    return plan_way_back(*converted_, part_bytes_);
  }
  std::string refusal() {
    return tests::message_of([&] { plan_back(); });
  }
  ordered_json record() const {
    return parse_ordered_json(read_text(to() / kSourceRecord), kSourceRecord);
  }
  void write_record(const ordered_json& record) const {
    write_text(to() / kSourceRecord, record.dump());
  }
  // What to() says when one of its record's members is another.
  std::string refusal_with(const char* key, const ordered_json& value) {
    const ordered_json good = record();
    ordered_json bad = good;
    bad[key] = value;
    write_record(bad);
    const std::string said = refusal();
    write_record(good);
    return said;
  }

  TinyQuantized model_;
  std::optional<QuantizedSource> converted_;
  uint64_t part_bytes_ = 99;
};

TEST_F(WayBack, TheSourcesOwnFiles) {
  for (const Layout layout :
       {Layout::kOctet, Layout::kMsmodelslim, Layout::kMindie, Layout::kMsmodelslimV1}) {
    for (const Layout other : {Layout::kOctet, Layout::kMindie, Layout::kCompressedTensors}) {
      if (other == layout) continue;
      const std::string words = layout_name(layout) + " by " + layout_name(other);
      for (const auto& folder : {from(), to()})
        for (const auto& entry : fs::directory_iterator(folder)) fs::remove(entry.path());
      convert(layout, other);
      EXPECT_EQ(way_back(to()), layout) << words;
      const LayoutPlan plan = plan_back();
      EXPECT_EQ(part_bytes_, 0u) << words;
      const tests::TempFolder back("relayout_back");
      tests::write_planned(plan, back.path());
      size_t files = 0;
      for (const auto& entry : fs::directory_iterator(from())) {
        const fs::path again = back / entry.path().filename().string();
        ASSERT_TRUE(fs::exists(again)) << words << " " << again;
        EXPECT_TRUE(read_text(again) == read_text(entry.path())) << words << " " << again;
        ++files;
      }
      EXPECT_EQ(std::distance(fs::directory_iterator(back.path()), fs::directory_iterator()),
                static_cast<ptrdiff_t>(files));
    }
  }
}

// A new file starts when the next tensor would reach the size (docs/formats.md): 60 bytes hold the
// 20 of the embedding, not the 20 of the head with 48 others.
TEST_F(WayBack, TheSourcesShards) {
  convert(Layout::kOctet, Layout::kMsmodelslimV1, 60);
  const LayoutPlan plan = plan_back();
  const tests::TempFolder back("relayout_shards");
  tests::write_planned(plan, back.path(), part_bytes_);
  size_t shards = 0;
  for (const auto& entry : fs::directory_iterator(from())) {
    const std::string name = entry.path().filename().string();
    EXPECT_TRUE(read_text(back / name) == read_text(entry.path())) << name;
    shards += name.ends_with(".safetensors");
  }
  EXPECT_GT(shards, 3u);
}

// Forms that are read but not written: what the plan back would make of them differs.
TEST_F(WayBack, KeepsTensorsThatAreNotMadeAgain) {
  convert(Layout::kOctet, Layout::kMsmodelslimV1);
  EXPECT_FALSE(fs::exists(to() / kSourceTensors));  // all are made again
  model_.set(kTinyQ + ".input_scale", DType::kF16, {}, tests::halves({0.5f}), "W8A8");
  model_.set(kTinyQ + ".input_offset", DType::kI8, {1}, std::vector<int8_t>{3}, "W8A8");
  model_.set("model.layers.0.self_attn.rotary_emb.inv_freq", DType::kF32, {1},
             std::vector<float>{1});
  convert(Layout::kOctet, Layout::kMsmodelslimV1);
  const SafetensorsFile kept(to() / kSourceTensors);
  std::vector<std::string> names;
  for (const TensorView& t : kept.tensors()) names.push_back(t.name);
  EXPECT_THAT(names,
              ::testing::UnorderedElementsAre(kTinyQ + ".input_scale", kTinyQ + ".input_offset",
                                              "model.layers.0.self_attn.rotary_emb.inv_freq"));
  tests::expect_planned(plan_back(), from());
  // No loader takes it for weights.
  for (const auto& entry : fs::directory_iterator(to()))
    EXPECT_FALSE(entry.path().filename().string().starts_with("octet_source") &&
                 entry.path().extension() == ".safetensors");
}

TEST_F(WayBack, FoldersThatSayNothing) {
  model_.write(to(), Layout::kOctet);
  EXPECT_EQ(way_back(to()), std::nullopt);
}

TEST_F(WayBack, ChangedWeightsAreRefused) {
  const std::string words = "the weights are not those that were written beside this file";
  convert(Layout::kOctet, Layout::kMsmodelslim);
  const std::vector<tests::LooseTensor> good = tests::loose_tensors(to());
  const std::string stem = "quant_model_weight_w8a8";
  const auto with = [&](const std::function<void(std::vector<tests::LooseTensor>&)>& change) {
    std::vector<tests::LooseTensor> all = good;
    change(all);
    tests::write_tensors(to(), all, {stem, 0, false});
    return refusal();
  };
  // The last byte of a tensor of 4 bytes, which no whole word holds.
  EXPECT_THAT(with([](auto& all) {
                for (tests::LooseTensor& t : all)
                  if (t.spec.name == kTinyQ + ".weight") t.data.back() ^= std::byte{1};
              }),
              AllOf(HasSubstr(words), HasSubstr(kSourceRecord), HasSubstr("remove the file")));
  // Two tensors of one size in each other's place.
  EXPECT_THAT(with([](auto& all) {
                const auto of = [&](const std::string& name) {
                  return std::find_if(all.begin(), all.end(),
                                      [&](const auto& t) { return t.spec.name == name; });
                };
                std::swap(of(kTinyDown + ".weight_scale")->data,
                          of(tests::kTinyNorm + ".weight")->data);
              }),
              HasSubstr(words));
  // The same bytes under each other's name.
  EXPECT_THAT(with([](auto& all) {
                for (tests::LooseTensor& t : all) {
                  const bool gate = t.spec.name == tests::kTinyGate + ".weight";
                  if (gate || t.spec.name == tests::kTinyUp + ".weight")
                    t.spec.name = (gate ? tests::kTinyUp : tests::kTinyGate) + ".weight";
                }
              }),
              HasSubstr(words));
  EXPECT_THAT(with([](auto& all) {
                all.push_back(all[0]);
                all.back().spec.name = "another";
              }),
              HasSubstr(words));
  tests::write_tensors(to(), good, {stem, 0, false});
  EXPECT_NO_THROW(plan_back());
}

TEST_F(WayBack, RecordsWithoutALayout) {
  convert(Layout::kOctet, Layout::kMsmodelslim);
  const ordered_json good = record();
  for (const ordered_json& bad :
       {ordered_json::array(), ordered_json::object(), ordered_json("octet"),
        ordered_json{{"layout", 3}}, ordered_json{{"layout", "gguf"}}}) {
    write_record(bad);
    EXPECT_THAT(tests::message_of([&] { way_back(to()); }),
                AllOf(HasSubstr("names no layout"), HasSubstr(kSourceRecord)));
  }
  write_text(to() / kSourceRecord, "{\"layout\"");
  EXPECT_THAT(tests::message_of([&] { way_back(to()); }), HasSubstr(kSourceRecord));
}

TEST_F(WayBack, DamagedRecordsAreRefused) {
  convert(Layout::kOctet, Layout::kMsmodelslim);
  const auto damaged = AllOf(HasSubstr("is not what octet convert writes"),
                             HasSubstr(kSourceRecord), HasSubstr("remove the file"));
  for (const char* key : {"checksum", "stem", "metadata", "part_bytes", "files", "tensors"}) {
    const ordered_json good = record();
    ordered_json bad = good;
    bad.erase(key);
    write_record(bad);
    EXPECT_THAT(refusal(), damaged) << key;
    write_record(good);
  }
  EXPECT_THAT(refusal_with("checksum", 5), HasSubstr("the weights are not those"));
  EXPECT_THAT(refusal_with("part_bytes", "many"), damaged);
  EXPECT_THAT(refusal_with("metadata", 1), damaged);
  EXPECT_THAT(refusal_with("tensors", {{"a", "F32"}}), damaged);
  EXPECT_THAT(refusal_with("tensors", {{"a", "F33", {2}}}), damaged);
  EXPECT_THAT(refusal_with("tensors", {{"a", "F32", {"x"}}}), damaged);
  // Names of files stay in the folder.
  const std::string config = read_text(from() / "config.json");
  EXPECT_THAT(refusal_with("stem", "../model"), damaged);
  EXPECT_THAT(refusal_with("stem", ""), damaged);
  EXPECT_THAT(refusal_with("files", {{"config.json", config}, {"../x.json", "{}"}}), damaged);
  EXPECT_THAT(refusal_with("files", {{"config.json", config}, {"/tmp/x.json", "{}"}}), damaged);
  EXPECT_THAT(refusal_with("files", {{"config.json", 5}}), damaged);
  // A folder needs its config.json.
  EXPECT_THAT(refusal_with("files", ordered_json::object()), damaged);
}

TEST_F(WayBack, TensorsOfTheRecordThatAreNotThere) {
  convert(Layout::kOctet, Layout::kMsmodelslim);
  ordered_json tensors = record().at("tensors");
  tensors.push_back(tensors[0]);
  EXPECT_THAT(refusal_with("tensors", tensors),
              HasSubstr("names a tensor twice: model.embed_tokens.weight"));
  tensors.back()[0] = kTinyO + ".extra";
  EXPECT_THAT(refusal_with("tensors", tensors),
              HasSubstr("a tensor cannot be made again: " + kTinyO + ".extra"));
}

}  // namespace
}  // namespace octet
