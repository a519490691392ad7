// BOS and EOS by tokenizer_config.json. What to expect was seen with transformers 4.57.3 and 5.24.0
// on the same folders.
#include "src/text/tokens_around.h"

#include <gmock/gmock.h>

#include "src/checkpoint/testing.h"
#include "src/text/testing.h"
#include "src/text/tokenizer.h"

namespace octet::text {
namespace {

using ::testing::ElementsAre;

constexpr int32_t kBos = 260, kEnd = 261;  // "<|bos|>" and "<|end|>" of byte_level_json()

class TokensAroundText : public ::testing::Test {
 protected:
  // The ids of "a" by version 4, which Octet follows, and by version 5.
  std::vector<int32_t> four() {
    write();
    return Tokenizer::load(dir_.path()).encode("a", true);
  }
  std::vector<int32_t> five() {
    write();
    return Tokenizer::load_as_filed(dir_.path()).encode("a", true);
  }
  void write() {
    write_text(dir_ / "tokenizer.json", tokenizer_.dump());
    write_text(dir_ / "tokenizer_config.json", config_.dump());
  }

  octet::tests::TempFolder dir_{"tokens_around"};
  ordered_json tokenizer_ = tests::byte_level_json();  // puts BOS before a text
  json config_ = {{"bos_token", "<|bos|>"}, {"eos_token", "<|end|>"}};
};

// As of DeepSeek-R1-Distill-Qwen: the file puts nothing around a text, the class does.
TEST_F(TokensAroundText, LlamasClassAddsBosThatTheFileLacks) {
  tokenizer_["post_processor"] = nullptr;
  EXPECT_THAT(four(), ElementsAre('a'));
  for (const char* name : {"LlamaTokenizerFast", "LlamaTokenizer", "CodeLlamaTokenizer"}) {
    config_["tokenizer_class"] = name;
    EXPECT_THAT(four(), ElementsAre(kBos, 'a')) << name;
    EXPECT_THAT(five(), ElementsAre('a')) << name;
  }
  config_.erase("tokenizer_class");
  write_text(dir_ / "config.json", R"({"model_type": "llama"})");
  EXPECT_THAT(four(), ElementsAre(kBos, 'a'));
}

TEST_F(TokensAroundText, TheFlagsOfLlamasClassWinOverTheFile) {
  config_["tokenizer_class"] = "LlamaTokenizerFast";
  EXPECT_THAT(four(), ElementsAre(kBos, 'a'));
  for (const json& off : {json(false), json(nullptr)}) {
    config_["add_bos_token"] = off;
    EXPECT_THAT(four(), ElementsAre('a')) << off;
    EXPECT_THAT(five(), ElementsAre(kBos, 'a')) << off;
  }
  config_["add_eos_token"] = true;
  EXPECT_THAT(four(), ElementsAre('a', kEnd));
  config_["add_bos_token"] = true;
  EXPECT_THAT(four(), ElementsAre(kBos, 'a', kEnd));
  EXPECT_THAT(five(), ElementsAre(kBos, 'a'));
}

TEST_F(TokensAroundText, OtherClassesGoByTheFile) {
  for (const char* name : {"PreTrainedTokenizerFast", "Qwen2Tokenizer"}) {
    config_["tokenizer_class"] = name;
    config_["add_bos_token"] = false;
    EXPECT_THAT(four(), ElementsAre(kBos, 'a')) << name;
  }
}

TEST_F(TokensAroundText, ATokenThatIsNotThereIsLeftOut) {
  config_ = {{"tokenizer_class", "LlamaTokenizerFast"}};  // "<s>" by default
  EXPECT_THAT(four(), ElementsAre('a'));
  config_["add_bos_token"] = "yes";
  EXPECT_THAT(octet::tests::message_of([&] { four(); }), ::testing::HasSubstr("add_bos_token"));
}

}  // namespace
}  // namespace octet::text
