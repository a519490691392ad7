#include "src/text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <string>
#include <thread>
#include <vector>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/json.h"
#include "src/text/stream_decoder.h"
#include "src/text/testing.h"

namespace octet::text {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

template <typename Call>
Error error_of(Call&& call) {
  try {
    call();
  } catch (const Error& e) {
    return e;
  }
  return Error("nothing was thrown");
}

TEST(Tokenizer, EncodesWithMergesAndSpecialTokens) {
  const Tokenizer t = tests::byte_level_tokenizer();
  EXPECT_THAT(t.encode("hello w", false), ElementsAre(258, 'o', 259));
  EXPECT_THAT(t.encode("hell", true), ElementsAre(260, 258));
  EXPECT_THAT(t.encode("a<|end|>b<tool>", false), ElementsAre('a', 261, 'b', 262));
  EXPECT_THAT(t.encode("", false), ElementsAre());
  EXPECT_THAT(t.encode("\u00e9", false), ElementsAre(0xC3, 0xA9));
  EXPECT_THAT(t.encode(std::string_view("a\0b", 3), false), ElementsAre('a', 0, 'b'));
}

TEST(Tokenizer, DecodesAndSkipsSpecialTokens) {
  const Tokenizer t = tests::byte_level_tokenizer();
  const std::vector<int32_t> ids = {260, 258, 'o', 259, 261, 262};
  EXPECT_EQ(t.decode(ids, false), "<|bos|>hello w<|end|><tool>");
  EXPECT_EQ(t.decode(ids, true), "hello w<tool>");
  EXPECT_EQ(t.decode({}, true), "");
  const std::vector<int32_t> broken = {0xC3};
  EXPECT_EQ(t.decode(broken, true), "\uFFFD");
}

TEST(Tokenizer, RoundTripsEveryScript) {
  const Tokenizer t = tests::byte_level_tokenizer();
  const std::string text = "Hello, w\u00f6rld!\r\n\t\u4f60\u597d \U0001F600 \u0627\u0644 1234";
  EXPECT_EQ(t.decode(t.encode(text, true), true), text);
}

TEST(Tokenizer, LooksTokensUp) {
  const Tokenizer t = tests::byte_level_tokenizer();
  EXPECT_EQ(t.vocab_size(), 263u);
  EXPECT_EQ(t.token_to_id("<|end|>"), 261);
  EXPECT_EQ(t.token_to_id("hell"), 258);
  EXPECT_EQ(t.token_to_id("nothing"), std::nullopt);
  EXPECT_EQ(t.id_to_token(261), "<|end|>");
  EXPECT_TRUE(t.is_special(260));
  EXPECT_FALSE(t.is_special(262));
  EXPECT_FALSE(t.is_special(-1));
  EXPECT_TRUE(t.has_token(262));
  EXPECT_FALSE(t.has_token(263));
  EXPECT_FALSE(t.has_token(-1));
  EXPECT_EQ(t.longest_token_bytes(), 7u);  // "<|bos|>"
}

TEST(Tokenizer, RefusesBadTextAndIds) {
  const Tokenizer t = tests::byte_level_tokenizer();
  for (const char* text : {"\xff", "ab\xc3", "\xed\xa0\x80", "\xc0\x80"}) {
    const Error e = error_of([&] { t.encode(text, false); });
    EXPECT_EQ(e.kind(), ErrorKind::kUsage);
    EXPECT_THAT(e.what(), HasSubstr("UTF-8"));
  }
  for (const int32_t id : {-1, 263, INT32_MAX, INT32_MIN}) {
    const Error e = error_of([&] { t.decode(std::vector<int32_t>{1, id}, true); });
    EXPECT_EQ(e.kind(), ErrorKind::kUsage);
    EXPECT_THAT(e.what(), HasSubstr(std::to_string(id)));
    EXPECT_EQ(error_of([&] { t.id_to_token(id); }).kind(), ErrorKind::kUsage);
  }
  EXPECT_EQ(error_of([&] { t.token_to_id("\xff"); }).kind(), ErrorKind::kUsage);
}

TEST(Tokenizer, NamesTheFileThatIsBroken) {
  const fs::path dir = fs::path(::testing::TempDir()) /
                       (std::string("octet_tokenizer_test_") + std::to_string(::getpid()));
  fs::remove_all(dir);
  fs::create_directories(dir);
  const std::string file = (dir / "tokenizer.json").string();
  EXPECT_THAT(error_of([&] { Tokenizer::load(dir); }).what(), HasSubstr(file));
  for (const char* text : {"", "{", "[]", "{\"model\": 1}", "\xff\xfe"}) {
    write_text(file, text);
    const Error e = error_of([&] { Tokenizer::load(dir); });
    EXPECT_THAT(e.what(), HasSubstr(file));
    EXPECT_THAT(e.what(), HasSubstr("not a usable tokenizer"));
  }
  ordered_json json = tests::byte_level_json();
  json["truncation"] = {
      {"direction", "Right"}, {"max_length", 1}, {"strategy", "LongestFirst"}, {"stride", 0}};
  write_text(file, json.dump());
  EXPECT_EQ(Tokenizer::load(dir).encode("abc", false).size(), 3u);  // truncation is ignored
  json["model"]["merges"].push_back({"h", "nothing"});
  write_text(file, json.dump());
  EXPECT_THAT(error_of([&] { Tokenizer::load(file); }).what(), HasSubstr(file));
  fs::remove_all(dir);
}

TEST(Tokenizer, IsSharedBetweenThreads) {
  const Tokenizer t = tests::byte_level_tokenizer();
  std::vector<std::jthread> threads;
  for (int i = 0; i < 4; ++i) {
    threads.emplace_back([&t, i] {
      for (int n = 0; n < 200; ++n) {
        const std::string text = "hello world " + std::to_string(i * 1000 + n);
        EXPECT_EQ(t.decode(t.encode(text, true), true), text);
      }
    });
  }
}

// tools/token_cases.py: the ids and texts of `tokenizers` for Python. The streamed text must add up
// to the decoded one as well.
void expect_cases(const fs::path& file, const fs::path& model) {
  const json cases = parse_json(read_text(file), file.string());
  const Tokenizer t = Tokenizer::load(model);
  ASSERT_GT(cases.size(), 100u);
  for (const json& c : cases) {
    const std::string text = c["text"];
    SCOPED_TRACE(text);
    const std::vector<int32_t> ids = t.encode(text, true);
    EXPECT_EQ(ids, c["ids"].get<std::vector<int32_t>>());
    EXPECT_EQ(t.encode(text, false), c["ids_without_special"].get<std::vector<int32_t>>());
    EXPECT_LE(text.size(), ids.size() * t.longest_token_bytes());
    for (const bool skip : {false, true}) {
      const std::string decoded = c[skip ? "decoded_without_special" : "decoded"];
      EXPECT_EQ(t.decode(ids, skip), decoded);
      StreamDecoder stream(t, skip);
      std::string streamed;
      for (const int32_t id : ids) streamed += stream.push(id);
      streamed += stream.flush();
      // A text that ends with U+FFFD looks like one that is cut inside a character.
      std::string cut = decoded;
      while (cut.ends_with("\uFFFD")) cut.resize(cut.size() - 3);
      EXPECT_EQ(streamed, cut);
    }
  }
}

TEST(Tokenizer, AgreesWithTheRecordedCases) {
  const fs::path root = OCTET_SOURCE_DIR;
  for (const auto& [name, dtype] :
       {std::pair("llama3_tiny", "_bf16"), std::pair("qwen2_tiny", "_fp16"),
        std::pair("qwen3_tiny", "_bf16")}) {
    SCOPED_TRACE(name);
    expect_cases(root / "tests/data" / (std::string("token_cases_") + name + ".json"),
                 root / "models" / (std::string(name) + dtype));
  }
}

}  // namespace
}  // namespace octet::text
