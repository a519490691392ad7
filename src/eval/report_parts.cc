#include "src/eval/report_parts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "src/base/progress.h"
#include "src/checkpoint/architecture.h"

namespace octet::page {
namespace {

constexpr double kShades[] = {12, 16, 20, 24,
                              28, 32, 36};  // decibels between one shade and the next

std::string last_name(const std::string& name) { return name.substr(name.rfind('.') + 1); }

}  // namespace

std::string escape(const std::string& text) {
  std::string out;
  for (char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  }
  return out;
}

std::string number(double v, int digits) {
  return std::isfinite(v) ? fmt::format("{:.{}f}", v, digits) : "-";
}
std::string short_number(double v) { return fmt::format("{:.3g}", v); }
std::string bytes(uint64_t v) { return format_bytes(v); }

std::string count(uint64_t v) {
  std::string digits = std::to_string(v);
  for (size_t at = digits.size(); at > 3; at -= 3) digits.insert(at - 3, "\u202f");
  return digits;
}

std::optional<double> value(const ordered_json& object, const char* key) {
  const auto it = object.find(key);
  if (it == object.end() || !it->is_number()) return std::nullopt;
  return it->get<double>();
}

std::optional<double> input_value(const ordered_json& linear, const char* key) {
  const auto it = linear.find("input");
  return it == linear.end() ? std::nullopt : value(*it, key);
}

std::string table(const std::vector<std::string>& header,
                  const std::vector<std::vector<std::string>>& rows) {
  std::string out = "<div class=\"scroll\" tabindex=\"0\"><table class=\"rows\">";
  out += "<thead><tr>";
  for (const std::string& h : header) out += "<th scope=\"col\">" + h + "</th>";
  out += "</tr></thead><tbody>\n";
  for (const auto& row : rows) {
    out += "<tr>";
    for (const std::string& cell : row) out += "<td>" + cell + "</td>";
    out += "</tr>\n";
  }
  return out + "</tbody></table></div>\n";
}

std::string heat_map(const std::string& title, const std::string& note, const ordered_json& linears,
                     const std::function<HeatCell(const ordered_json&)>& cell) {
  std::map<int64_t, std::map<std::string, const ordered_json*>> layers;
  for (const ordered_json& l : linears) {
    const std::string name = l.at("name").get<std::string>();
    if (const auto layer = layer_of(name)) layers[*layer][last_name(name)] = &l;
  }
  std::string out = fmt::format(
      "<section><h3>{}</h3><p class=\"soft small\">{}</p>\n<div class=\"scroll\" tabindex=\"0\">"
      "<table class=\"heat\"><thead><tr><th scope=\"col\">layer</th>",
      title, note);
  for (const LinearRow& column : linear_rows()) {
    const std::string_view word = short_name(column);
    out += fmt::format("<th scope=\"col\">{}</th>", word.substr(0, word.find('_')));
  }
  out += "</tr></thead><tbody>\n";
  for (const auto& [layer, row] : layers) {
    out += fmt::format("<tr><td>{}</td>", layer);
    for (const LinearRow& column : linear_rows()) {
      const auto it = row.find(short_name(column));
      const HeatCell c = it == row.end() ? HeatCell{} : cell(*it->second);
      out += fmt::format("<td class=\"{}\"{}>{}</td>",
                         c.shade < 0 ? "none" : fmt::format("h{}", c.shade),
                         c.hint.empty() ? "" : fmt::format(" title=\"{}\"", escape(c.hint)),
                         c.text.empty() ? "–" : c.text);
    }
    out += "</tr>\n";
  }
  return out + "</tbody></table></div></section>\n";
}

int shade_of(double decibels) {
  return static_cast<int>(std::upper_bound(std::begin(kShades), std::end(kShades), decibels) -
                          std::begin(kShades));
}

std::string decibel_key() {
  std::string out = "<p class=\"key\">";
  const size_t last = std::size(kShades);
  for (size_t i = 0; i <= last; ++i) {
    const std::string text = i == 0      ? fmt::format("below {} dB", kShades[0])
                             : i == last ? fmt::format("{} and more", kShades[last - 1])
                                         : fmt::format("{}–{}", kShades[i - 1], kShades[i]);
    out += fmt::format("<span><i class=\"h{}\"></i>{}</span>", i, text);
  }
  return out + "</p>\n";
}

std::string histogram(const ordered_json& h) {
  constexpr double kWidth = 320, kHeight = 120, kBase = 100;
  const double low = h.at("min").get<double>(), high = h.at("max").get<double>();
  const auto counts = h.at("counts").get<std::vector<double>>();
  std::optional<double> from = value(h, "low"), to = value(h, "high");
  // The axis shows what was seen and the range, but not more than half again of an idle range.
  const double room = 0.5 * (high - low);
  double left = low, right = high;
  if (from) left = std::clamp(*from, low - room, low);
  if (to) right = std::clamp(*to, high, high + room);
  const double span = right > left ? right - left : 1;
  const auto x = [&](double v) { return (v - left) / span * kWidth; };
  const double most = std::log1p(*std::max_element(counts.begin(), counts.end()));
  std::string svg =
      fmt::format("<svg viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"histogram, log scale\">",
                  kWidth, kHeight);
  if (from && to) {
    const double a = std::max(0.0, x(*from)), b = std::min(kWidth, x(*to));
    svg += fmt::format("<rect class=\"band\" x=\"{:.1f}\" y=\"0\" width=\"{:.1f}\" height=\"{}\"/>",
                       a, b - a, kBase);
  }
  const double bin = (high - low) / static_cast<double>(counts.size());
  for (size_t i = 0; i < counts.size(); ++i) {
    if (counts[i] == 0) continue;
    const double tall = std::log1p(counts[i]) / most * (kBase - 4);
    svg += fmt::format(
        "<rect class=\"bar\" x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"/>",
        x(low + static_cast<double>(i) * bin), kBase - tall,
        std::max(1.0, bin / span * kWidth - 0.6), tall);
  }
  svg += fmt::format("<line class=\"axis\" x1=\"0\" x2=\"{}\" y1=\"{}\" y2=\"{}\"/>", kWidth, kBase,
                     kBase);
  for (const auto& edge : {from, to})
    if (edge && *edge >= left && *edge <= right)
      svg += fmt::format("<line class=\"edge\" x1=\"{0:.1f}\" x2=\"{0:.1f}\" y1=\"0\" y2=\"{1}\"/>",
                         x(*edge), kBase);
  const auto label = [&](double at, const char* anchor, double v) {
    svg += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"{}\">{}</text>", at, kHeight - 5,
                       anchor, short_number(v));
  };
  label(0, "start", left);
  if (left < 0 && right > 0 && x(0) > 0.2 * kWidth && x(0) < 0.8 * kWidth) label(x(0), "middle", 0);
  label(kWidth, "end", right);
  return svg + "</svg>";
}

std::string state_curve(const ordered_json& layers) {
  constexpr double kWidth = 640, kHeight = 220, kLeft = 60, kRight = 12, kTop = 12, kBottom = 34;
  std::vector<std::pair<double, double>> points;
  for (const ordered_json& l : layers)
    if (const auto v = value(l, "state_snr")) points.emplace_back(l.at("layer").get<double>(), *v);
  if (points.empty()) return "";
  double low = points[0].second, high = low, last = 1;
  for (const auto& [layer, v] : points) {
    low = std::min(low, v);
    high = std::max(high, v);
    last = std::max(last, layer);
  }
  low = std::floor(low / 5) * 5;
  high = std::max(std::ceil(high / 5) * 5, low + 5);
  const auto x = [&](double layer) { return kLeft + layer / last * (kWidth - kLeft - kRight); };
  const auto y = [&](double v) {
    return kTop + (high - v) / (high - low) * (kHeight - kTop - kBottom);
  };
  std::string svg = fmt::format(
      "<div class=\"scroll wide\" tabindex=\"0\"><svg viewBox=\"0 0 {} {}\" role=\"img\" "
      "aria-label=\"signal-to-noise of the state after every layer\">",
      kWidth, kHeight);
  for (double v = low; v <= high + 0.1; v += high - low > 20 ? 10 : 5)
    svg += fmt::format(
        "<line class=\"axis\" x1=\"{}\" x2=\"{}\" y1=\"{:.1f}\" y2=\"{:.1f}\"/>"
        "<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{} dB</text>",
        kLeft, kWidth - kRight, y(v), y(v), kLeft - 6, y(v) + 4, v);
  std::string path;
  for (const auto& [layer, v] : points) path += fmt::format("{:.1f},{:.1f} ", x(layer), y(v));
  svg += fmt::format("<polyline class=\"curve\" points=\"{}\"/>", path);
  const double step = std::max(1.0, std::ceil(last / 12));
  for (const auto& [layer, v] : points) {
    svg += fmt::format(
        "<circle class=\"dot\" cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"3\"><title>layer {}: {:.1f} "
        "dB</title></circle>",
        x(layer), y(v), layer, v);
    if (std::fmod(layer, step) == 0)
      svg += fmt::format("<text x=\"{:.1f}\" y=\"{}\" text-anchor=\"middle\">{}</text>", x(layer),
                         kHeight - kBottom + 18, layer);
  }
  return svg + "</svg></div>\n";
}

}  // namespace octet::page
