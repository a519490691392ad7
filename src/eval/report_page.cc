#include "src/eval/report_page.h"

#include <fmt/format.h>

#include <cmath>
#include <map>

#include "src/base/error.h"
#include "src/base/progress.h"
#include "src/checkpoint/scheme.h"
#include "src/eval/report_parts.h"

namespace octet {

extern const char kReportCss[];  // made by CMake from report_page.css

namespace {

using page::escape;
using page::number;

std::string text_of(const ordered_json& object, const char* key) {
  return escape(object.at(key).get<std::string>());
}

std::string db(const std::optional<double>& v) { return v ? number(*v, 1) : "–"; }
std::string percent(double share, int digits) { return number(100 * share, digits) + " %"; }

// Is not broken after its dashes.
std::string flag(const char* name) { return fmt::format("<span class=\"flag\">{}</span>", name); }

std::string tile(const std::string& what, const std::string& value, const std::string& note) {
  return fmt::format("<div class=\"tile\"><dt>{}</dt><dd>{}<small>{}</small></dd></div>\n", what,
                     value, note);
}

// How many layer linears have each type.
std::map<std::string, size_t> type_counts(const ordered_json& report) {
  std::map<std::string, size_t> counts;
  for (const ordered_json& l : report.at("linears")) ++counts[l.at("type").get<std::string>()];
  return counts;
}

std::string tiles(const ordered_json& r) {
  const uint64_t before = r.at("size").at("before").get<uint64_t>();
  const uint64_t after = r.at("size").at("after").get<uint64_t>();
  std::string out = "<dl class=\"tiles\">\n";
  out += tile(
      "size", page::bytes(after),
      fmt::format("{} of {}", percent(static_cast<double>(after) / static_cast<double>(before), 0),
                  page::bytes(before)));
  size_t all = 0, quantized = 0;
  for (const auto& [type, n] : type_counts(r)) {
    all += n;
    if (type != kFloatWord) quantized += n;
  }
  out += tile("in int8", fmt::format("{} of {}", quantized, all), "matrices (linears)");
  if (r.contains("measured")) {
    const ordered_json& m = r.at("measured").at("models").at(1);
    out += tile("KL per token", number(m.at("kl").get<double>(), 4), "nats; 0 is no difference");
    out += tile(
        "perplexity", number(m.at("perplexity").get<double>(), 3),
        fmt::format("float: {}",
                    number(r.at("measured").at("models").at(0).at("perplexity").get<double>(), 3)));
  }
  const ordered_json& method = r.at("method");
  out += method.contains("practice")
             ? tile("method", "practice", "of msModelSlim v1")
             : tile("method", text_of(method, "name"),
                    method.contains("settings") ? "as msModelSlim does it" : "a recipe of Octet");
  const ordered_json& c = r.at("calibration");
  const auto samples = c.at("samples").get<uint64_t>(), tokens = c.at("tokens").get<uint64_t>();
  if (samples > 0)
    out += tile("calibration", page::count(tokens),
                fmt::format("tokens of {} text{}", samples, samples == 1 ? "" : "s"));
  else
    out += tile("calibration", "none",
                c.contains("outlier_batches") ? "but text for outlier suppression"
                                              : "data-free: no text needed");
  out += tile("time", format_seconds(r.at("seconds").get<double>()), "to quantize");
  out += "</dl>\n";
  if (c.contains("advised_tokens"))
    out += fmt::format(
        "<p class=\"warning\">Only {} tokens calibrate the static ranges, which may not hold for "
        "other text: text of at least {} tokens is advised.</p>\n",
        page::count(tokens), page::count(c.at("advised_tokens").get<uint64_t>()));
  return out;
}

std::string figure_cell(const ordered_json& m, const char* key, int digits, double factor = 1) {
  const auto v = page::value(m, key);
  if (!v) return "–";
  std::string out = number(factor * *v, digits);
  if (const auto it = m.find(std::string(key) + "_interval"); it != m.end())
    out += fmt::format("<br><small class=\"soft\">[{}, {}]</small>",
                       number(factor * it->at(0).get<double>(), digits),
                       number(factor * it->at(1).get<double>(), digits));
  return out;
}

std::string cost(const ordered_json& r) {
  std::string out = "<h2 id=\"cost\">What it cost</h2>\n";
  if (!r.contains("measured"))
    return out +
           "<p>Not measured yet. The figures further down look at single matrices; what counts in "
           "the end is how far the answers of the whole model moved. Measure that on text that was "
           "not used for calibration, and this page will show it:</p>\n<pre class=\"wrap\">octet "
           "report FOLDER " +
           flag("--float") + " FLOAT_FOLDER " + flag("--text") + " TEXT.jsonl</pre>\n";
  const ordered_json& m = r.at("measured");
  const ordered_json &f = m.at("models").at(0), &q = m.at("models").at(1);
  out += fmt::format(
      "<p>Both models read the same {} tokens (<code>{}</code>) and said before each how likely "
      "they hold every possible next token. In brackets: 95 % confidence, from drawing the "
      "passages anew.</p>\n",
      page::count(q.at("tokens").get<uint64_t>()), text_of(m, "text"));
  const auto row = [&](const char* what, const char* words, const char* key, int digits,
                       double factor = 1) {
    const bool both = std::string(key) == "perplexity";
    return std::vector<std::string>{
        fmt::format("{}<br><small class=\"soft\">{}</small>", what, words),
        both ? figure_cell(f, key, digits, factor) : "–", figure_cell(q, key, digits, factor)};
  };
  return out +
         page::table(
             {"figure", "float", "quantized"},
             {row("perplexity", "how surprised the model is; lower is better", "perplexity", 3),
              row("perplexity, relative", "1 is no worse", "perplexity_ratio", 4),
              row("KL per token", "how far the whole forecast moved, in nats", "kl", 5),
              row("same likeliest token, %", "both would say the same next", "top1", 1, 100),
              row("same likeliest five, %", "what their five favourites share", "top5", 1, 100),
              row("largest logit error", "the worst single number", "largest_logit_error", 3)});
}

// Shades for the share of clipped values: none is best.
int clipped_shade(double share) {
  constexpr double kLimits[] = {1e-6, 1e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2};
  int shade = 7;
  for (double limit : kLimits) shade -= share > limit;
  return shade;
}

std::string range_text(const ordered_json& l) {
  const auto low = page::input_value(l, "low"), high = page::input_value(l, "high");
  if (low && high)
    return fmt::format("{} … {}", page::short_number(*low), page::short_number(*high));
  const auto scheme = parse_scheme(l.at("type").get<std::string>());
  return scheme && scales_per_token(*scheme) ? "per token" : "–";
}
std::string seen_text(const ordered_json& l) {
  const auto min = page::input_value(l, "min"), max = page::input_value(l, "max");
  if (!min || !max) return "–";
  return fmt::format("{} … {}", page::short_number(*min), page::short_number(*max));
}

// What a cell of a map says when one points at it.
std::string hint(const ordered_json& l) {
  std::string s = l.at("name").get<std::string>() + ", " + l.at("type").get<std::string>();
  if (l.contains("input")) s += ", inputs " + seen_text(l) + ", range " + range_text(l);
  return s;
}

page::HeatCell decibel_cell(const ordered_json& l, const std::optional<double>& v) {
  if (l.at("type") == kFloatWord) return {-1, "float", hint(l)};
  if (!v) return {-1, "", hint(l)};
  return {page::shade_of(*v), number(*v, 0), hint(l)};
}

page::HeatCell type_cell(const ordered_json& l) {
  const std::string type = l.at("type").get<std::string>();
  const std::optional<Scheme> scheme = parse_scheme(type);
  if (!scheme) return {-1, escape(type), hint(l)};
  return {!is_quantized(*scheme) ? -1
          : is_static(*scheme)   ? 6
                                 : 5,
          scheme_row(*scheme).short_word, hint(l)};
}

std::string maps(const ordered_json& r) {
  const ordered_json& linears = r.at("linears");
  std::string out =
      "<h2 id=\"maps\">Layer by layer</h2>\n"
      "<p>Each cell is one matrix: layers downwards, its place in the layer across (q, k, v and o "
      "belong to attention, gate, up and down to the MLP). The number is a signal-to-noise ratio "
      "in decibels: how much larger the true values are than the error that rounding adds. 10 dB "
      "more means a tenth of the error's energy; 20 dB is an error of a tenth of the values, 40 dB "
      "of a hundredth.</p>\n";
  bool outputs = false, inputs = false, clipped = false;
  for (const ordered_json& l : linears) {
    outputs = outputs || l.contains("output_snr");
    inputs = inputs || page::input_value(l, "snr");
    clipped = clipped || page::input_value(l, "clipped");
  }
  out += page::decibel_key() + "<div class=\"maps\">\n";
  if (outputs)
    out += page::heat_map(
        "Output, dB", "the int8 matrix beside the float one on the same inputs", linears,
        [](const ordered_json& l) { return decibel_cell(l, page::value(l, "output_snr")); });
  if (inputs)
    out += page::heat_map("Input, dB", "rounded to int8", linears, [](const ordered_json& l) {
      return decibel_cell(l, page::input_value(l, "snr"));
    });
  if (!outputs)
    out += page::heat_map("Weights, dB", "rounded to int8", linears, [](const ordered_json& l) {
      return decibel_cell(l, page::value(l, "weight_snr"));
    });
  if (clipped)
    out += page::heat_map("Clipped", "millionths of the inputs that lie outside of the range",
                          linears, [](const ordered_json& l) -> page::HeatCell {
                            const auto v = page::input_value(l, "clipped");
                            if (!v) return {-1, l.at("type") == kFloatWord ? "float" : "", hint(l)};
                            return {clipped_shade(*v), number(1e6 * *v, 0), hint(l)};
                          });
  out += page::heat_map("Type", "static: one scale for all inputs; token: one for each token",
                        linears, type_cell);
  out += "</div>\n";
  if (const std::string curve = page::state_curve(r.at("layers")); !curve.empty())
    out +=
        "<h3>Along the model</h3>\n<p>The stream of numbers between the layers, quantized beside "
        "float, after every layer. Errors add up, so it tends to fall; a step down points at "
        "the layer that caused it. It rises where a layer makes a few values so large that they "
        "outweigh all errors, which most models do.</p>\n" +
        curve;
  return out;
}

std::string all_linears(const ordered_json& r) {
  std::vector<std::vector<std::string>> rows;
  for (const ordered_json& l : r.at("linears")) {
    const auto clipped = page::input_value(l, "clipped");
    rows.push_back({text_of(l, "name"), text_of(l, "type"), seen_text(l), range_text(l),
                    clipped ? percent(*clipped, 4) : "–", db(page::input_value(l, "snr")),
                    db(page::value(l, "weight_snr")), db(page::value(l, "output_snr"))});
  }
  return fmt::format("<details><summary>All {} matrices as a table</summary>\n", rows.size()) +
         page::table({"linear", "type", "inputs seen", "range", "clipped", "input, dB",
                      "weights, dB", "output, dB"},
                     rows) +
         "</details>\n";
}

std::string histograms(const ordered_json& r) {
  const ordered_json& list = r.at("histograms");
  if (list.empty()) return "";
  std::string out =
      "<h2 id=\"histograms\">The hardest inputs</h2>\n<p>The inputs whose rounding costs most. "
      "Bars: "
      "how many of the values seen while calibrating fall where, on a logarithmic scale (so that "
      "single outliers show). Shaded, between the two lines: the range that int8 covers. What lies "
      "outside is clipped to its edge; a wide range with almost everything in the middle wastes "
      "the 256 steps that int8 has.</p>\n<div class=\"charts\">\n";
  for (const ordered_json& h : list) {
    std::string names;
    for (const ordered_json& name : h.at("linears")) {
      const std::string n = name.get<std::string>();
      names += names.empty() ? escape(n) : ", " + escape(n.substr(n.rfind('.') + 1));
    }
    const auto low = page::value(h, "low"), high = page::value(h, "high");
    out += fmt::format(
        "<figure class=\"chart\"><figcaption><b>{}</b><br>{} dB; seen {} … {}; {}</figcaption>{}"
        "</figure>\n",
        names, number(h.at("snr").get<double>(), 1), page::short_number(h.at("min").get<double>()),
        page::short_number(h.at("max").get<double>()),
        low && high
            ? fmt::format("range {} … {}", page::short_number(*low), page::short_number(*high))
            : "a range for each token",
        page::histogram(h));
  }
  return out + "</div>\n";
}

// The reason that the quantizer notes, in words for people who do not know its flags.
std::string explain(const std::string& reason) {
  constexpr std::pair<const char*, const char*> kWhy[] = {
      {"--disable_last_linear", "the head, whose errors go straight into the answer"},
      {"--disable_names", "named by whoever quantized"},
      {"--disable_level", "among the hardest inputs by score"},
      {"--disable_threshold", "harder than the threshold that was set"},
      {"--float-budget", "where float gains most for the bytes it takes"},
      {"default of model type", "known to be hard in this kind of model"},
      {"same group as", "reads the same input, and linears of one input have one type"}};
  for (const auto& [start, why] : kWhy)
    if (reason.starts_with(start)) return fmt::format("{} ({})", why, escape(reason));
  return escape(reason);
}

std::string kept(const ordered_json& r) {
  // "--disable_level: score 31.5": what comes before the colon is shared.
  std::map<std::string, std::string> items;
  for (const ordered_json& l : r.at("linears")) {
    if (l.at("type") != kFloatWord) continue;
    const std::string reason = l.contains("reason") ? l.at("reason").get<std::string>() : "";
    const size_t colon = reason.find(": ");
    std::vector<std::string> details;
    if (colon != std::string::npos) details.push_back(escape(reason.substr(colon + 2)));
    if (const auto v = page::input_value(l, "snr_if_static"))
      details.push_back("one range for all inputs: " + number(*v, 1) + " dB");
    std::string& item = items[reason.substr(0, colon)];
    item += fmt::format("{} <code>{}</code>", item.empty() ? "" : ",", text_of(l, "name"));
    if (!details.empty()) item += fmt::format(" ({})", fmt::join(details, "; "));
  }
  std::string out = "<h2 id=\"kept\">What stayed in float, and why</h2>\n";
  if (items.empty()) return out + "<p>Nothing: every matrix is in int8.</p>\n";
  out += "<ul>\n";
  for (const auto& [reason, item] : items)
    out += fmt::format("<li>{}:{}</li>\n", explain(reason), item);
  return out + "</ul>\n<p class=\"soft small\">Embedding and norms always stay as they are.</p>\n";
}

std::string sizes(const ordered_json& r) {
  std::vector<std::vector<std::string>> rows;
  const auto size = [](uint64_t v) { return v == 0 ? std::string("–") : page::bytes(v); };
  for (const ordered_json& s : r.at("size").at("rows"))
    rows.push_back({text_of(s, "role"), text_of(s, "type"),
                    std::to_string(s.at("count").get<uint64_t>()),
                    size(s.at("before").get<uint64_t>()), size(s.at("after").get<uint64_t>())});
  return "<h2 id=\"size\">Where the bytes are</h2>\n" +
         page::table({"tensors", "type", "count", "before", "after"}, rows);
}

std::string how(const ordered_json& r) {
  const ordered_json &m = r.at("method"), &model = r.at("model");
  std::string out = "<h2 id=\"how\">How it was made</h2>\n";
  std::vector<std::vector<std::string>> rows;
  for (const char* key : {"model_type", "dtype", "layers", "hidden_size", "intermediate_size",
                          "heads", "kv_heads", "vocab_size"})
    rows.push_back({key, model.at(key).is_string() ? text_of(model, key)
                                                   : page::count(model.at(key).get<uint64_t>())});
  if (model.contains("written_intermediate_size"))
    rows.push_back({"intermediate_size, written",
                    page::count(model.at("written_intermediate_size").get<uint64_t>())});
  if (r.contains("octet")) rows.push_back({"version of Octet", text_of(r, "octet")});
  const ordered_json& c = r.at("calibration");
  for (const auto& [what, prefix] :
       {std::pair("calibration text", ""), std::pair("text of outlier suppression", "outlier_")}) {
    const std::string source = std::string(prefix) + "source", hash = std::string(prefix) + "hash";
    if (c.contains(source)) rows.push_back({what, text_of(c, source.c_str())});
    if (c.contains(hash))
      rows.push_back({std::string(what) + ", hash of its tokens", text_of(c, hash.c_str())});
  }
  if (m.contains("settings"))
    for (const auto& [key, value] : m.at("settings").items())
      rows.push_back(
          {escape(key), escape(value.is_string() ? value.get<std::string>() : value.dump())});
  out += page::table({"setting", "value"}, rows);
  if (m.contains("notes"))
    for (const ordered_json& note : m.at("notes"))
      out += fmt::format("<p>{}.</p>\n", escape(note.get<std::string>()));
  if (m.contains("recipe"))
    out += "<p>The recipe; <code>octet quantize MODEL OUT " + flag("--recipe") +
           " FILE</code> with it makes the same model again:</p>\n<pre>" + text_of(m, "recipe") +
           "</pre>\n";
  if (m.contains("practice"))
    out += "<p>The practice; <code>octet quantize quant " + flag("--model_path") + " MODEL " +
           flag("--save_path") + " OUT " + flag("--config_path") +
           " FILE</code> with it makes the same model again:</p>\n<pre>" + text_of(m, "practice") +
           "</pre>\n";
  return out;
}

constexpr const char* kWords = R"(<h2 id="words">Words</h2>
<dl class="words">
<dt>Quantizing</dt><dd>A language model is mostly large matrices of 16-bit numbers. Stored as 8-bit whole
numbers (int8) with a scale for each row they take half the memory, and chips multiply them faster. "W8A8"
says that weights (W) and inputs, the activations (A), both have 8 bits.</dd>
<dt>W8A8, W8A8_DYNAMIC, W8A8_MIX, W8A16, FLOAT</dt><dd>Types of a matrix. W8A8: its inputs have one range,
fixed beforehand. W8A8_DYNAMIC: each token gets a range of its own while the model runs. W8A8_MIX: a range for
each token while a prompt is read, the fixed one while the answer is written. W8A16: only the weights have 8 bits,
the inputs keep their 16. FLOAT: nothing was rounded to int8.</dd>
<dt>Layer, attention, MLP, head</dt><dd>A model is a stack of like layers. In each of them attention looks at
earlier tokens, and the MLP (multi-layer perceptron) then works on every token by itself. The head (lm_head) is
the last matrix, which makes of the last layer's numbers a score for every possible next token.</dd>
<dt>Calibration</dt><dd>Weights are known; inputs depend on the text. So the model reads some text first, and
from what flows through it the range of every input is chosen.</dd>
<dt>Range, clipped</dt><dd>int8 has 256 steps. A wide range makes them coarse, a narrow one cuts off what lies
outside. Both are errors; the best range balances them.</dd>
<dt>Static, per token</dt><dd>A static range holds for all text. A range for each token follows the values, is
more exact and costs some time while the model runs.</dd>
<dt>Decibel (dB)</dt><dd>Ten times the logarithm of signal energy over error energy. Larger is better.</dd>
<dt>GPTQ</dt><dd>A way of rounding a matrix: column by column, where what one column's rounding breaks is
made good in the columns that are still to come.</dd>
<dt>Logit</dt><dd>The model's score for one possible next token, before scores become likelihoods.</dd>
<dt>Perplexity</dt><dd>Between how many equally likely tokens the model seems to choose at each step. Lower is
better.</dd>
<dt>KL divergence, nats</dt><dd>How much worse the quantized model's forecast is when the float model's is the
truth. It is counted in nats, units of information as bits are: one nat is 1.44 bits. Near 0.01 hardly anybody notices a difference; at 0.1 answers start to differ.</dd>
</dl>
)";

std::string lead(const ordered_json& r) {
  std::string types;
  for (const auto& [type, n] : type_counts(r))
    types += fmt::format("{}{} {}", types.empty() ? "" : ", ", n, escape(type));
  return fmt::format(
      "<h1>{}, quantized to {}</h1>\n<p class=\"soft\">A report by Octet: what was made smaller, "
      "how, and what that cost. Unknown words are explained <a href=\"#words\">below</a>. Matrices "
      "by type: {}.</p>\n",
      text_of(r.at("model"), "name"), text_of(r, "type"), types);
}

}  // namespace

std::string report_page(const ordered_json& r, const std::string& where) {
  try {
    if (r.at("version") != 1) throw Error("a report of another version").file(where).expected("1");
    return "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
           "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>" +
           text_of(r.at("model"), "name") + ": quantization report</title>\n<style>\n" +
           kReportCss + "</style>\n</head>\n<body>\n" + lead(r) + tiles(r) + cost(r) + maps(r) +
           all_linears(r) + histograms(r) + kept(r) + sizes(r) + how(r) + kWords +
           "</body>\n</html>\n";
  } catch (const nlohmann::json::exception& e) {
    throw Error("the report is broken")
        .file(where)
        .found(e.what())
        .remedy("quantize again to get a new one");
  }
}

}  // namespace octet
