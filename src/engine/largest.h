// The largest logits of a row of which the head has given upper bounds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "src/engine/logit_rules.h"
#include "src/model/head.h"

namespace octet {

// A token that may be drawn and its logit, with the rules applied.
struct Choice {
  int32_t token;
  float logit;
};
// Whether a is drawn before b: a larger logit, or, of equals, a lower token.
inline bool comes_before(const Choice& a, const Choice& b) {
  return a.logit != b.logit ? a.logit > b.logit : a.token < b.token;
}

// The `count` (at least 1) choices that come first, among others, in no order; all there are if
// they are fewer. `bounds` [vocab] (overwritten) are at least the logits of `exact`.
std::vector<Choice> largest_choices(std::span<float> bounds, const ExactLogits& exact, size_t count,
                                    const LogitRules& rules);

}  // namespace octet
