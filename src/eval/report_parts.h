// Pieces of the report's page.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "src/base/json.h"

namespace octet::page {

std::string escape(const std::string& text);  // for HTML, also inside quotes
std::string number(double v, int digits);     // "-" for NaN
std::string short_number(double v);           // three digits that count
std::string bytes(uint64_t v);
std::string count(uint64_t v);  // with thin gaps: 1 234 567
std::optional<double> value(const ordered_json& object, const char* key);
// Of the input of a linear of the report.
std::optional<double> input_value(const ordered_json& linear, const char* key);

// A table with its header in a box of its own that scrolls; all cells are HTML already.
std::string table(const std::vector<std::string>& header,
                  const std::vector<std::vector<std::string>>& rows);

// Layers down, linears across, a colour and a word for every linear of the report.
struct HeatCell {
  int shade = -1;  // 0 worst to 7 best; -1 for none
  std::string text, hint;
};
std::string heat_map(const std::string& title, const std::string& note, const ordered_json& linears,
                     const std::function<HeatCell(const ordered_json&)>& cell);
// The shade of decibels, and the key that explains all shades.
int shade_of(double decibels);
std::string decibel_key();

// Bars for the counts on a log scale, with the chosen range as a band.
std::string histogram(const ordered_json& histogram);
// Signal-to-noise of the state after every layer.
std::string state_curve(const ordered_json& layers);

}  // namespace octet::page
