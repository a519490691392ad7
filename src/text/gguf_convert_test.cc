#include "src/text/gguf_convert.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/json.h"
#include "src/checkpoint/safetensors.h"
#include "src/text/chat_template.h"
#include "src/text/gguf_testing.h"
#include "src/text/tokenizer.h"

namespace octet::text {
namespace {

using ::testing::HasSubstr;
using tests::TinyGguf;

class GgufConvert : public ::testing::Test {
 protected:
  GgufConvert()
      : dir_(fs::path(::testing::TempDir()) /
             (std::string("octet_gguf_convert_test_") + std::to_string(::getpid()))) {
    fs::remove_all(dir_);
    fs::create_directories(dir_);
  }
  ~GgufConvert() override { fs::remove_all(dir_); }

  fs::path write(const TinyGguf& tiny) const {
    const auto builder = tiny.build();
    const auto bytes = builder.bytes();
    write_text(dir_ / "tiny.gguf", {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    return dir_ / "tiny.gguf";
  }
  void convert(const TinyGguf& tiny, const GgufConvertOptions& options = {}) const {
    convert_gguf(write(tiny), dir_ / "out", options, {});
  }
  std::string refusal(const TinyGguf& tiny, const GgufConvertOptions& options = {}) const {
    try {
      convert(tiny, options);
    } catch (const Error& e) {
      EXPECT_FALSE(fs::exists(dir_ / "out"));
      return e.what();
    }
    ADD_FAILURE() << "accepted";
    return {};
  }
  json config() const { return json::parse(read_text(dir_ / "out" / "config.json")); }

  fs::path dir_;
};

TEST_F(GgufConvert, WritesALlamaFolder) {
  int64_t last = -1, total = -1;
  convert_gguf(write({}), dir_ / "out", {}, [&](int64_t done, int64_t all, const std::string&) {
    EXPECT_EQ(done, last + 1);
    last = done;
    total = all;
  });
  EXPECT_EQ(last, total);
  const json c = config();
  EXPECT_EQ(c["architectures"][0], "LlamaForCausalLM");
  EXPECT_EQ(c["torch_dtype"], "bfloat16");
  EXPECT_EQ(c["num_key_value_heads"], 2);
  EXPECT_EQ(c["head_dim"], 8);
  EXPECT_EQ(c["rms_norm_eps"], 1e-5);
  EXPECT_EQ(c["rope_theta"], 500000.0);
  EXPECT_EQ(c["vocab_size"], 264);
  EXPECT_EQ(c["tie_word_embeddings"], true);
  EXPECT_EQ(c["eos_token_id"], 260);
  const TensorStore store(dir_ / "out");
  EXPECT_EQ(store.all().size(), 2u + 2 * 9);
  EXPECT_EQ(store.find("lm_head.weight"), nullptr);
  EXPECT_EQ(store.get("model.embed_tokens.weight").shape, (Shape{264, 32}));
  EXPECT_EQ(store.get("model.layers.1.mlp.down_proj.weight").shape, (Shape{32, 64}));
  // Rows of a head of 8 come from rows 0 2 4 6 1 3 5 7 of the file, whose row r starts with 32 r.
  const auto q = store.get("model.layers.0.self_attn.q_proj.weight").floats();
  const std::vector<int> from = {0, 2, 4, 6, 1, 3, 5, 7, 8, 10};
  for (size_t r = 0; r < from.size(); ++r)
    EXPECT_EQ(q[32 * r], static_cast<float>(32 * from[r])) << r;
  const auto v = store.get("model.layers.0.self_attn.v_proj.weight").floats();
  EXPECT_EQ(v[32], 32.0f);
  EXPECT_EQ(Tokenizer::load(dir_ / "out").encode("hell", true), std::vector<int32_t>{258});
  EXPECT_TRUE(ChatTemplate::load(dir_ / "out").has_value());
}

TEST_F(GgufConvert, WritesAQwen2Folder) {
  GgufConvertOptions options;
  options.dtype = DType::kF16;
  options.part_bytes = 20000;
  convert({.arch = "qwen2", .pre = "qwen2", .tied = false}, options);
  const json c = config();
  EXPECT_EQ(c["architectures"][0], "Qwen2ForCausalLM");
  EXPECT_EQ(c["torch_dtype"], "float16");
  EXPECT_EQ(c["tie_word_embeddings"], false);
  const TensorStore store(dir_ / "out");
  EXPECT_GT(store.files().size(), 1u);
  EXPECT_EQ(store.get("lm_head.weight").dtype, DType::kF16);
  EXPECT_EQ(store.get("model.layers.1.self_attn.k_proj.bias").shape, Shape{16});
  // Qwen2's rows are stored as they are.
  EXPECT_EQ(store.get("model.layers.0.self_attn.q_proj.weight").floats()[32], 32.0f);
}

TEST_F(GgufConvert, WritesAQwen3Folder) {
  convert({.arch = "qwen3", .pre = "qwen2", .tied = false});
  EXPECT_EQ(config()["architectures"][0], "Qwen3ForCausalLM");
  EXPECT_EQ(config()["head_dim"], 8);
  const TensorStore store(dir_ / "out");
  EXPECT_EQ(store.get("model.layers.1.self_attn.k_norm.weight").shape, Shape{8});
  EXPECT_EQ(store.find("model.layers.1.self_attn.k_proj.bias"), nullptr);
  EXPECT_EQ(store.get("model.layers.0.self_attn.q_proj.weight").floats()[32], 32.0f);
}

TEST_F(GgufConvert, TakesTheTokenizerOfAnotherFolder) {
  convert({});
  fs::rename(dir_ / "out", dir_ / "original");
  write_text(dir_ / "original/LICENSE", "free");
  const TinyGguf unknown = {.pre = "of-next-year"};
  EXPECT_THAT(refusal(unknown), HasSubstr("--tokenizer DIR"));
  GgufConvertOptions options;
  options.tokenizer = (dir_ / "original").string();
  convert(unknown, options);
  EXPECT_EQ(read_text(dir_ / "out/tokenizer.json"), read_text(dir_ / "original/tokenizer.json"));
  EXPECT_EQ(read_text(dir_ / "out/LICENSE"), "free");
  EXPECT_EQ(config()["eos_token_id"], 260);
  fs::remove_all(dir_ / "out");
  TinyGguf other = unknown;
  other.doubled_token = "other";
  EXPECT_THAT(refusal(other, options), HasSubstr("token 0; expected \"other\""));
}

TEST_F(GgufConvert, RefusesWhatDoesNotFitTheArchitecture) {
  EXPECT_THAT(refusal({.arch = "mamba"}), HasSubstr("general.architecture"));
  EXPECT_THAT(refusal({.drop = "blk.1.ffn_up.weight"}), HasSubstr("blk.1.ffn_up.weight"));
  EXPECT_THAT(refusal({.drop = "token_embd.weight"}), HasSubstr("token_embd.weight"));
  EXPECT_THAT(refusal({.extra = "blk.0.attn_q.bias"}), HasSubstr("blk.0.attn_q.bias"));
  EXPECT_THAT(refusal({.extra = "rope_freqs.weight"}), HasSubstr("rope_freqs.weight"));
  GgufConvertOptions options;
  options.dtype = DType::kF16;
  EXPECT_THAT(refusal({.value_offset = 65520}, options), HasSubstr("float16"));
  options.dtype = DType::kF32;
  EXPECT_THAT(refusal({}, options), HasSubstr("bfloat16 or float16"));
}

TEST_F(GgufConvert, LeavesAnExistingFolderAlone) {
  convert({});
  const auto again = [&] { convert({.arch = "qwen2", .pre = "qwen2"}); };
  EXPECT_THROW(again(), Error);
  EXPECT_EQ(config()["model_type"], "llama");
  convert({.arch = "qwen2", .pre = "qwen2"}, {.overwrite = true});
  EXPECT_EQ(config()["model_type"], "qwen2");
}

}  // namespace
}  // namespace octet::text
