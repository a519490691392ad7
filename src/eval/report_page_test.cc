// The page of a small report. (Of a real one: tests/cli/report_test.py.)
#include "src/eval/report_page.h"

#include <gtest/gtest.h>

#include "src/base/error.h"
#include "src/checkpoint/testing.h"
#include "src/eval/report_parts.h"

namespace octet {
namespace {

ordered_json small_report() {
  return parse_ordered_json(R"({
    "version": 1,
    "model": {"name": "a<b", "model_type": "llama", "dtype": "bfloat16", "layers": 1,
      "hidden_size": 4, "intermediate_size": 8, "heads": 1, "kv_heads": 1, "vocab_size": 1234567},
    "type": "W8A8",
    "method": {"name": "mine", "recipe": "recipe: mine & yours\n"},
    "calibration": {"samples": 2, "tokens": 100},
    "seconds": 3.5,
    "size": {"before": 2048, "after": 1024, "rows": []},
    "linears": [
      {"name": "model.layers.0.mlp.down_proj", "type": "W8A8", "weight_snr": 41.5, "output_snr": 21.5,
       "input": {"min": -1, "max": 2, "low": -1.5, "high": 1.5, "clipped": 0.0025, "snr": 33.3}},
      {"name": "lm_head", "type": "FLOAT", "reason": "last \"linear\""}],
    "layers": [{"layer": 0, "state_snr": 30.25}],
    "histograms": [{"linears": ["model.layers.0.mlp.down_proj"], "snr": 33.3, "min": -1, "max": 2,
      "low": -1.5, "high": 1.5, "counts": [1, 0, 5, 2]}]
  })",
                            "test");
}

bool holds(const std::string& page, const std::string& words) {
  return page.find(words) != std::string::npos;
}

TEST(ReportPage, ShowsWhatTheReportHolds) {
  const std::string page = report_page(small_report(), "test");
  for (const char* words :
       {"a&lt;b, quantized to W8A8", "recipe: mine &amp; yours", "last &quot;linear&quot;",
        "<td>41.5</td><td>21.5</td>", "-1.5 … 1.5", "0.2500 %", "<td>33.3</td>", "layer 0: 30.2 dB",
        "1\u202f234\u202f567", "Not measured yet", "2500</td>"})
    EXPECT_TRUE(holds(page, words)) << words;
  EXPECT_FALSE(holds(page, "<script"));
  EXPECT_FALSE(holds(page, "http"));
  EXPECT_EQ(page, report_page(small_report(), "test"));
}

TEST(ReportPage, ShowsWhatWasMeasured) {
  ordered_json r = small_report();
  r["measured"] = {{"text", "t.jsonl"},
                   {"models",
                    {{{"tokens", 10}, {"perplexity", 5.0}},
                     {{"tokens", 10},
                      {"perplexity", 5.5},
                      {"perplexity_ratio", 1.1},
                      {"kl", 0.0123},
                      {"kl_interval", {0.01, 0.02}},
                      {"top1", 0.9},
                      {"top5", 0.95},
                      {"largest_logit_error", 1.5}}}}};
  const std::string page = report_page(r, "test");
  EXPECT_TRUE(holds(page, "0.01230<br><small class=\"soft\">[0.01000, 0.02000]</small>"));
  EXPECT_TRUE(holds(page, "90.0</td>"));
  EXPECT_FALSE(holds(page, "Not measured yet"));
}

TEST(ReportPage, SaysWhereTheModelComesFrom) {
  ordered_json r = small_report();
  r["octet"] = "1.2.3";
  r["model"]["written_intermediate_size"] = 12;
  r["calibration"]["source"] = "a&b.jsonl";
  r["calibration"]["hash"] = "0123456789abcdef";
  r["method"] = {{"name", "practice of msModelSlim v1"}, {"practice", "spec: {a: '<'}\n"}};
  const std::string page = report_page(r, "test");
  for (const char* words :
       {"<td>1.2.3</td>", "written</td><td>12</td>", "<td>a&amp;b.jsonl</td>",
        "<td>0123456789abcdef</td>", "<pre>spec: {a: '&lt;'}", "quantize quant"})
    EXPECT_TRUE(holds(page, words)) << words;
  EXPECT_FALSE(holds(page, "a recipe of Octet"));
}

TEST(ReportPage, ExplainsItsWords) {
  const std::string page = report_page(small_report(), "test");
  const std::string words = page.substr(page.find("id=\"words\""));
  for (const char* word :
       {"W8A8_DYNAMIC", "W8A8_MIX", "W8A16", "FLOAT", "nats", "head", "MLP", "GPTQ"})
    EXPECT_TRUE(holds(words, word)) << word;
}

// In the map of types; one that this version does not know says its own.
TEST(ReportPage, ShortWordsOfTypes) {
  for (const auto& [type, cell] :
       {std::pair("FLOAT", "<td class=\"none\" title=\"{}\">float</td>"),
        std::pair("W8A8", "<td class=\"h6\" title=\"{}\">static</td>"),
        std::pair("W8A8_DYNAMIC", "<td class=\"h5\" title=\"{}\">token</td>"),
        std::pair("W8A8_MIX", "<td class=\"h5\" title=\"{}\">mix</td>"),
        std::pair("W8A16", "<td class=\"h5\" title=\"{}\">W8A16</td>"),
        std::pair("W<4", "<td class=\"none\" title=\"{}\">W&lt;4</td>")}) {
    ordered_json r = small_report();
    ordered_json& l = r["linears"][0];
    l["type"] = type;
    l.erase("input");
    const std::string hint = page::escape("model.layers.0.mlp.down_proj, " + std::string(type));
    std::string words = cell;
    words.replace(words.find("{}"), 2, hint);
    EXPECT_TRUE(holds(report_page(r, "test"), words)) << type;
  }
}

// A column for every linear of a layer, in order.
TEST(ReportPage, ColumnsOfItsMaps) {
  std::string columns;
  for (const char* word : {"layer", "q", "k", "v", "o", "gate", "up", "down"})
    columns += "<th scope=\"col\">" + std::string(word) + "</th>";
  EXPECT_TRUE(holds(report_page(small_report(), "test"), columns));
}

TEST(ReportPage, BrokenReportsAreErrors) {
  ordered_json r = small_report();
  r.erase("size");
  const auto message = [&] {
    return octet::tests::message_of([&] { report_page(r, "file.json"); });
  };
  EXPECT_TRUE(holds(message(), "file.json: the report is broken")) << message();
  r["version"] = 2;
  EXPECT_TRUE(holds(message(), "another version")) << message();
}

TEST(ReportParts, ShadesOfDecibels) {
  EXPECT_EQ(page::shade_of(3), 0);
  EXPECT_EQ(page::shade_of(12), 1);
  EXPECT_EQ(page::shade_of(35.9), 6);
  EXPECT_EQ(page::shade_of(200), 7);
}

}  // namespace
}  // namespace octet
