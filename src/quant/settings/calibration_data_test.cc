#include "src/quant/settings/calibration_data.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>

#include "src/base/json.h"
#include "src/checkpoint/testing.h"

namespace octet {
namespace {

using octet::tests::message_of;
using octet::tests::TempFolder;
using ::testing::Test;

using Texts = std::vector<std::string>;
using Samples = std::vector<std::vector<int32_t>>;

class CalibrationFiles : public Test {
 protected:
  fs::path file(const std::string& name, std::string_view content) {
    write_text(folder_ / name, content);
    return folder_ / name;
  }
  // What reading a text file of this content complains about.
  std::string text_error(const std::string& name, std::string_view content) {
    const fs::path path = file(name, content);
    return message_of([&] { read_calibration_texts(path); });
  }
  TempFolder folder_{"calibration_data"};
};

void expect_part(const std::string& message, const std::string& part) {
  EXPECT_NE(message.find(part), std::string::npos) << message;
}

TEST_F(CalibrationFiles, LinesOfObjects) {
  const fs::path path = file("a.jsonl", "{\"text\": \"one\"}\n{\"text\": \"two\\nlines\"}");
  EXPECT_EQ(read_calibration_texts(path), (Texts{"one", "two\nlines"}));
}

TEST_F(CalibrationFiles, BlankLinesAreSkipped) {
  EXPECT_EQ(read_calibration_texts(file("a.jsonl",
                                        "\n{\"text\": \"one\"}\r\n  \t\n\r\n"
                                        "{\"text\": \"two\"}\n\n")),
            (Texts{"one", "two"}));
}

TEST_F(CalibrationFiles, ListOfObjects) {
  const fs::path path = file("a.json", "[\n{\"prompt\": \"one\"},\n{\"text\": \"two\"}]");
  EXPECT_EQ(read_calibration_texts(path), (Texts{"one", "two"}));
}

TEST_F(CalibrationFiles, TheFirstKnownKeyWins) {
  EXPECT_EQ(read_calibration_texts(
                file("a.jsonl", R"({"text": "t", "prompt": "p", "inputs_pretokenized": "i"})"
                                "\n"
                                R"({"text": "t", "prompt": "p", "answer": "a"})"
                                "\n"
                                R"({"id": 1, "text": "t"})"
                                "\n"
                                R"({"inputs_pretokenized": 3, "prompt": "no string before"})")),
            (Texts{"i", "p", "t", "no string before"}));
}

TEST_F(CalibrationFiles, ErrorsNameTheLine) {
  const std::string good = "{\"text\": \"good\"}\n";
  for (const char* bad : {"{\"text\": ", "{\"answer\": \"no text\"}", "{\"text\": 3}", "[\"text\"]",
                          "\"text\"", "{\"text\": \"\"}"}) {
    SCOPED_TRACE(bad);
    const std::string message = text_error("a.jsonl", good + "\n" + bad + "\n" + good);
    expect_part(message, "a.jsonl");
    expect_part(message, "line 3");
  }
  // In a list the item, counted from zero.
  expect_part(text_error("a.json", "[{\"text\": \"good\"}, {\"question\": \"?\"}]"), "item 1");
}

TEST_F(CalibrationFiles, FilesWithoutTexts) {
  for (const char* content : {"", "\n \n"}) expect_part(text_error("a.jsonl", content), "empty");
  expect_part(text_error("a.json", "[]"), "empty");
  expect_part(text_error("a.json", "{\"text\": \"no list\"}"), "list");
  expect_part(text_error("a.json", "[{\"text\": \"cut"), "a.json");
  expect_part(message_of([&] { read_calibration_texts(folder_ / "none.jsonl"); }), "none.jsonl");
}

TEST_F(CalibrationFiles, AsMsModelSlimALineWithoutItsKeyIsTheText) {
  const fs::path path = file("a.jsonl",
                             "{\"inputs_pretokenized\": \"one\", \"text\": \"t\"}\n"
                             "{\"prompt\": \"two\"}\n[\"three\"]");
  EXPECT_EQ(read_calibration_texts_as_msmodelslim(path),
            (Texts{"one", "{\"prompt\": \"two\"}\n", "[\"three\"]"}));
  const auto error = [&](const std::string& name, const char* content) {
    const fs::path bad = file(name, content);
    return message_of([&] { read_calibration_texts_as_msmodelslim(bad); });
  };
  expect_part(error("b.jsonl", "{\"inputs_pretokenized\": \"one\"}\n\n{}"), "line 2");
  expect_part(error("b.jsonl", "{\"inputs_pretokenized\": 3}"), "inputs_pretokenized");
  expect_part(error("b.jsonl", ""), "empty");
  expect_part(error("b.json", "[{\"text\": \"one\"}]"), "prompt");
  EXPECT_EQ(read_calibration_texts_as_msmodelslim(file("c.json", "[{\"prompt\": \"one\"}]")),
            Texts{"one"});
}

TEST_F(CalibrationFiles, OutlierTextsInGroups) {
  std::string lines;
  for (int i = 0; i < 6; ++i) lines += "{\"inputs_pretokenized\": \"" + std::to_string(i) + "\"}\n";
  const OutlierTexts fours = read_outlier_texts(file("a.jsonl", lines), false);
  EXPECT_FALSE(fours.special_tokens);
  EXPECT_EQ(fours.groups, (std::vector<Texts>{{"0", "1", "2", "3"}, {"4", "5"}}));
  EXPECT_EQ(fours.all(), (Texts{"0", "1", "2", "3", "4", "5"}));
  const OutlierTexts lists =
      read_outlier_texts(file("a.json", R"([["a", "b"], ["c"], {"prompt": "d"}])"), true);
  EXPECT_TRUE(lists.special_tokens);
  EXPECT_EQ(lists.groups, (std::vector<Texts>{{"a", "b"}, {"c"}, {"d"}}));
  for (const char* bad : {"[]", "{}", "[[]]", "[[1]]", "[[\"\"]]", "[{\"answer\": \"x\"}]"}) {
    SCOPED_TRACE(bad);
    const fs::path path = file("bad.json", bad);
    expect_part(message_of([&] { read_outlier_texts(path, true); }), "bad.json");
  }
}

TEST_F(CalibrationFiles, Tokens) {
  EXPECT_EQ(read_calibration_tokens(file("t.json", "[[1, 2, 3], [0], [2147483647]]")),
            (Samples{{1, 2, 3}, {0}, {2147483647}}));
}

TEST_F(CalibrationFiles, TokensOfTheWrongKind) {
  for (const char* bad :
       {"[]", "{}", "3", "[1, 2]", "[[1], 2]", "[[\"1\"]]", "[[1.5]]", "[[-1]]", "[[2147483648]]",
        "[[18446744073709551615]]", "[[true]]", "[[null]]", "[[[1]]]", "[[1, 2]", ""}) {
    SCOPED_TRACE(bad);
    const fs::path path = file("t.json", bad);
    expect_part(message_of([&] { read_calibration_tokens(path); }), "t.json");
  }
}

// The program carries the file as it is: as many texts as lines, in order.
TEST(BuiltinCalibration, HoldsTheRepositorysTexts) {
  const Texts texts = builtin_calibration_texts();
  const std::string file = read_text(fs::path(OCTET_SOURCE_DIR) / "models/calibration/calib.jsonl");
  ASSERT_EQ(static_cast<ptrdiff_t>(texts.size()), std::count(file.begin(), file.end(), '\n'));
  size_t at = 0;
  for (const std::string& text : texts) {
    const size_t end = file.find('\n', at);
    EXPECT_EQ(json::parse(file.substr(at, end - at)).at("inputs_pretokenized"), text);
    EXPECT_GE(text.size(), 40u);
    at = end + 1;
  }
}

TEST(TokenizeCalibration, AddsSpecialTokensAndCuts) {
  const text::Tokenizer tokenizer =
      text::Tokenizer::load(fs::path(OCTET_SOURCE_DIR) / "models/llama3_tiny_bf16");
  const Texts texts = {"The quick brown fox jumps over the lazy dog.", "Hi"};
  const Samples whole = tokenize(texts, "it", tokenizer, 1000),
                cut = tokenize(texts, "it", tokenizer, 4);
  const Samples shorter = tokenize(texts, "it", tokenizer, whole.at(0).size() - 1);
  EXPECT_EQ(shorter.at(0).size(), whole[0].size() - 1);
  ASSERT_EQ(whole.size(), 2u);
  ASSERT_EQ(cut.size(), 2u);
  for (size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ(whole[i][0], tokenizer.token_to_id("<|begin_of_text|>"));
    EXPECT_EQ(tokenizer.decode(whole[i], /*skip_special_tokens=*/true), texts[i]);
    const size_t length = std::min<size_t>(whole[i].size(), 4);
    EXPECT_EQ(cut[i], std::vector<int32_t>(whole[i].begin(),
                                           whole[i].begin() + static_cast<ptrdiff_t>(length)));
  }
  EXPECT_EQ(cut[0].size(), 4u);
}

TEST(TokenizeCalibration, NamesTheTextThatTheModelCannotRead) {
  const fs::path model = fs::path(OCTET_SOURCE_DIR) / "models/llama3_tiny_bf16";
  const int32_t last = text::Tokenizer::load(model).encode("<|eot_id|>", false).at(0);
  const text::Tokenizer tokenizer = text::Tokenizer::load(model, last);
  const std::string message = octet::tests::message_of([&] {
    tokenize({"Hi", "Rain.<|eot_id|>"}, "boolq.jsonl", tokenizer, 100);
  });
  EXPECT_THAT(message, ::testing::HasSubstr("boolq.jsonl, text 2"));
  EXPECT_THAT(message, ::testing::HasSubstr(std::to_string(last) + ", \"<|eot_id|>\""));
  EXPECT_THAT(message, ::testing::HasSubstr("ids below " + std::to_string(last)));
}

TEST(TokenizeOutlierTexts, PadsToTheLongestOfAGroup) {
  const text::Tokenizer tokenizer =
      text::Tokenizer::load(fs::path(OCTET_SOURCE_DIR) / "models/llama3_tiny_bf16");
  OutlierTexts texts{{{"Hi", "The quick brown fox"}, {"Rain falls."}}, /*special_tokens=*/false};
  const auto batches = tokenize_padded(texts, "it", tokenizer);
  ASSERT_EQ(batches.size(), 2u);
  std::vector<int32_t> hi = tokenizer.encode("Hi", false);
  const std::vector<int32_t> fox = tokenizer.encode("The quick brown fox", false);
  ASSERT_LT(hi.size(), fox.size());
  hi.resize(fox.size(), 0);
  EXPECT_EQ(batches[0], (Samples{hi, fox}));
  EXPECT_EQ(batches[1], Samples{tokenizer.encode("Rain falls.", false)});
  texts.special_tokens = true;
  EXPECT_EQ(tokenize_padded(texts, "it", tokenizer)[1],
            Samples{tokenizer.encode("Rain falls.", true)});
}

}  // namespace
}  // namespace octet
