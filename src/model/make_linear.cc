#include "src/model/make_linear.h"

#include <cstdint>

#include "src/base/error.h"
#include "src/model/float_linear.h"
#include "src/model/mix_linear.h"

namespace octet {

std::unique_ptr<Linear> make_linear(Scheme scheme, const LinearParams& p, ThreadTeam& team) {
  OCTET_CHECK((scheme == Scheme::kFloat) == (p.type != kernels::FloatType::kI8));
  const auto int8 = [&] { return std::make_shared<const Int8Weights>(p.weights, p.n, p.k, team); };
  switch (scheme) {
    case Scheme::kFloat:
      return std::make_unique<FloatLinear>(p.weights, p.type, p.n, p.k, p.bias, team);
    case Scheme::kW8A16:
      return std::make_unique<W8A16Linear>(
          p.weights, p.n, p.k, W8A16Params{p.weight_scale, p.weight_offset, p.bias}, team);
    case Scheme::kW8A8:
      return std::make_unique<W8A8Linear>(int8(), p.fixed);
    case Scheme::kW8A8Dynamic:
      return std::make_unique<DynamicLinear>(int8(), DynamicParams{p.weight_scale, p.bias});
    case Scheme::kW8A8Mix:
      return std::make_unique<MixLinear>(int8(), p.fixed, DynamicParams{p.weight_scale, p.bias});
  }
  OCTET_CHECK(false);
}

}  // namespace octet
