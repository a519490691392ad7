// Float models that merges, exports and downloads left a little otherwise than their class has it.
// What they mean is what transformers makes of them.
#include "src/checkpoint/model_folder.h"

#include <gmock/gmock.h>

#include "src/checkpoint/check.h"
#include "src/checkpoint/testing.h"

namespace octet {
namespace {

using octet::tests::EditedModel;
using octet::tests::message_of;
using octet::tests::TempFolder;
using ::testing::HasSubstr;

const std::string kOBias = "self_attn.o_proj.bias";

std::string remark_of(const ModelFolder& folder) {
  return folder.remarks().empty() ? "" : describe(folder.remarks()[0]);
}

bool has_error(const fs::path& folder) {
  for (const Finding& f : check_folder(folder))
    if (f.severity == Severity::kError) return true;
  return false;
}

TEST(ModelFolder, AnUntouchedModelNeedsNoRemark) {
  for (const char* family : {"llama_fp16", "qwen2_bf16", "qwen3_bf16"}) {
    const fs::path path = fs::path(OCTET_SOURCE_DIR) / "tests/golden" / family / "model";
    EXPECT_TRUE(ModelFolder(path).remarks().empty()) << family;
  }
}

TEST(ModelFolder, ATypeThatIsNullIsThatOfTheEmbedding) {
  const TempFolder dir("folder_type");
  EditedModel model("qwen2_bf16");
  for (const ordered_json& config : {ordered_json{{"torch_dtype", nullptr}},
                                     ordered_json{{"torch_dtype", nullptr}, {"dtype", nullptr}},
                                     ordered_json{{"dtype", nullptr}}}) {
    model.config.erase("torch_dtype");
    model.config.erase("dtype");
    model.config.update(config);
    model.write(dir.path());
    const ModelFolder folder(dir.path());
    EXPECT_EQ(folder.config().dtype, DType::kBF16) << config;
    EXPECT_FALSE(folder.config().raw.contains("torch_dtype")) << config;
  }
}

TEST(ModelFolder, AHeadThatDiffersFromTheEmbeddingIsNotTied) {
  const TempFolder dir("folder_head");
  EditedModel model("llama_fp16");
  model.config["tie_word_embeddings"] = true;
  model.write(dir.path());
  const ModelFolder folder(dir.path());
  EXPECT_FALSE(folder.config().tie_word_embeddings);
  EXPECT_EQ(folder.config().raw["tie_word_embeddings"], false);
  EXPECT_EQ(folder.head_weight().name, kHeadWeight);
  EXPECT_THAT(remark_of(folder), HasSubstr("differs from the embedding"));
  EXPECT_FALSE(has_error(dir.path()));  // the float model; what is made of it says false
}

TEST(ModelFolder, AHeadThatEqualsTheEmbeddingStaysTied) {
  const TempFolder dir("folder_same_head");
  EditedModel model("llama_fp16");
  model.config["tie_word_embeddings"] = true;
  model.remove(kHeadWeight);
  model.add(kEmbeddingWeight, kHeadWeight);
  model.write(dir.path());
  EXPECT_TRUE(ModelFolder(dir.path()).config().tie_word_embeddings);
  EXPECT_TRUE(ModelFolder(dir.path()).remarks().empty());
  // The same numbers in another type, as msModelSlim writes them.
  const std::vector<float> wide = ModelFolder(dir.path()).head_weight().floats();
  model.at(kHeadWeight).set(DType::kF32, {160, 64}, wide);
  model.write(dir.path());
  EXPECT_TRUE(ModelFolder(dir.path()).config().tie_word_embeddings);
}

TEST(ModelFolder, ATiedModelMayStoreItsHeadOnly) {
  const TempFolder dir("folder_only_head");
  EditedModel model("llama_fp16");
  const std::vector<std::byte> table = model.at(kHeadWeight).data;
  model.config["tie_word_embeddings"] = true;
  model.remove(kEmbeddingWeight);
  model.write(dir.path());
  const ModelFolder folder(dir.path());
  const TensorView& embedding = folder.tensors().get(kEmbeddingWeight);
  EXPECT_TRUE(std::ranges::equal(embedding.data, table));
  EXPECT_EQ(embedding.name, kEmbeddingWeight);
  EXPECT_EQ(&folder.head_weight(), &embedding);
  EXPECT_EQ(folder.tensors().find(kHeadWeight), nullptr);
  EXPECT_TRUE(folder.config().tie_word_embeddings);
  EXPECT_THAT(remark_of(folder), HasSubstr("no embedding"));
  EXPECT_FALSE(has_error(dir.path()));
}

TEST(ModelFolder, BiasesThatTheConfigDeniesAreNamed) {
  const TempFolder dir("folder_denied");
  EditedModel model("llama_fp16");
  model.add("model.norm.weight", "model.layers.1.self_attn.q_proj.bias");
  model.add("model.norm.weight", "model.layers.2." + kOBias);
  model.write(dir.path());
  const std::string remark = remark_of(ModelFolder(dir.path()));
  EXPECT_THAT(remark, HasSubstr("model.layers.1.self_attn.q_proj.bias"));
  EXPECT_THAT(remark, HasSubstr("2 of them"));
  EXPECT_THAT(remark, HasSubstr("attention_bias"));
}

// Qwen under the name of LLaMA: attention_bias gives o_proj a bias, which no Qwen has.
EditedModel llamafied_qwen() {
  EditedModel model("qwen2_bf16");
  model.config["architectures"] = {"LlamaForCausalLM"};
  model.config["model_type"] = "llama";
  model.config["attention_bias"] = true;
  return model;
}

TEST(ModelFolder, TheBiasOfOIsZeroWhereOnlyQkvHaveOne) {
  const TempFolder dir("folder_zero_bias");
  EditedModel model = llamafied_qwen();
  model.write(dir.path());
  const ModelFolder folder(dir.path());
  for (const LinearRow& row : linear_rows())
    EXPECT_EQ(folder.has_zero_bias(row), row.kind == LinearKind::kO) << row.name;
  EXPECT_THAT(remark_of(folder), HasSubstr("zeros"));
  EXPECT_FALSE(has_error(dir.path()));
  // One that is stored makes the others missing.
  model.add("model.norm.weight", "model.layers.0." + kOBias);
  model.write(dir.path());
  EXPECT_FALSE(ModelFolder(dir.path()).has_zero_bias(linear_rows()[3]));
  EXPECT_TRUE(has_error(dir.path()));
}

TEST(ModelFolder, IndexEntriesWithoutATensorAreLeftOut) {
  const TempFolder dir("folder_index");
  EditedModel model("llama_fp16");
  WriterOptions options;
  options.part_bytes = 60000;
  model.write(dir.path(), options);
  const fs::path file = dir / "model.safetensors.index.json";
  ordered_json index = parse_ordered_json(read_text(file), "index");
  index["weight_map"]["mtp.fc.weight"] = index["weight_map"].front();
  write_text(file, index.dump());
  EXPECT_THAT(remark_of(ModelFolder(dir.path())), HasSubstr("mtp.fc.weight"));
  EXPECT_FALSE(has_error(dir.path()));
}

}  // namespace
}  // namespace octet
