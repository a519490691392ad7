#include "src/quant/layerwise/type_choice.h"

#include <fmt/format.h>

#include <algorithm>

#include "src/base/checked.h"

namespace octet {
namespace {

constexpr double kPays = 0.005;  // of the whole error

double cost_of(const GroupCost& g, Scheme scheme) {
  return scheme == Scheme::kFloat ? 0 : scheme == Scheme::kW8A8 ? g.fixed : g.per_token;
}

}  // namespace

void choose_types(const std::vector<GroupCost>& costs, const ChooseTypes& budgets,
                  std::map<std::string, Scheme>& types, KeptInFloat& kept) {
  std::vector<const GroupCost*> order;
  double whole = 0;
  for (const GroupCost& g : costs) {
    if (types.at(g.linears[0]) == Scheme::kFloat) continue;
    order.push_back(&g);
    whole += g.fixed;
  }
  const auto by_gain = [](const GroupCost* a, const GroupCost* b) {
    return a->fixed - a->per_token > b->fixed - b->per_token;
  };
  std::stable_sort(order.begin(), order.end(), by_gain);
  const int64_t per_token = budgets.dynamic_budget.value_or(ChooseTypes::kWhereItPays);
  const bool where_it_pays = per_token == ChooseTypes::kWhereItPays;
  size_t left = where_it_pays ? SIZE_MAX : as_size(per_token);
  for (const GroupCost* g : order) {
    const double gain = g->fixed - g->per_token;
    if (gain <= (where_it_pays ? kPays * whole : 0)) break;
    if (g->linears.size() > left) continue;
    left -= g->linears.size();
    for (const std::string& name : g->linears) types[name] = Scheme::kW8A8Dynamic;
  }
  const auto gain_a_byte = [&](const GroupCost* g) {
    return cost_of(*g, types.at(g->linears[0])) / static_cast<double>(g->bytes);
  };
  std::stable_sort(order.begin(), order.end(), [&](const GroupCost* a, const GroupCost* b) {
    return gain_a_byte(a) > gain_a_byte(b);
  });
  left = as_size(budgets.float_budget);
  for (const GroupCost* g : order) {
    if (g->linears.size() > left) continue;
    left -= g->linears.size();
    const double error = cost_of(*g, types.at(g->linears[0]));
    for (const std::string& name : g->linears) {
      types[name] = Scheme::kFloat;
      kept.emplace(name, fmt::format("--float-budget: relative error {:.1e} in int8", error));
    }
  }
}

}  // namespace octet
