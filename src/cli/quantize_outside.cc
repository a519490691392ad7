// Flags of msModelSlim for what Octet does not do: only what asks for nothing is accepted.
#include <fmt/format.h>

#include <array>

#include "src/cli/quantize_flags.h"

namespace octet::cli {
namespace {

// Flags of the tool for other kinds of quantization: only the value that means none is accepted.
struct Outside {
  const char* name;
  const char* only;  // the one value that is accepted
  const char* what;
};
constexpr std::array<Outside, 10> kOutside = {{
    {"--w-bit", "8", "weight bits"},
    {"--co-sparse", "False", "sparse quantization"},
    {"--is-lowbit", "False", "low-bit quantization"},
    {"--do-smooth", "False", "low-bit: smoothing"},
    {"--use-sigma", "False", "low-bit: sigma outliers"},
    {"--open-outlier", "True", "low-bit: weight outliers"},
    {"--use-reduce-quant", "False", "quantized all-reduce"},
    {"--use-fa-quant", "False", "int8 attention"},
    {"--w-method", "MinMax", "weight rounding of low-bit types; msModelSlim refuses it for W8A8"},
    {"--mm-tensor", "True", "per-tensor weights (the tool ignores it and works per channel)"},
}};

// Parameters of these: without them they change nothing in the tool either.
struct Parameter {
  const char* name;
  double usual;
  const char* of;
};
constexpr std::array<Parameter, 5> kParameters = {{
    {"--fraction", 0.01, "sparse quantization"},
    {"--sigma-factor", 3, "low-bit quantization"},
    {"--group-size", 64, "low-bit quantization"},
    {"--tp-size", 1, "quantized all-reduce"},
    {"--fa-amp", 0, "int8 attention"},
}};

}  // namespace

void add_outside_flags(const Verb& verb) {
  constexpr const char* kOutsideGroup = "Of msModelSlim, for what Octet does not do";
  for (const Outside& flag : kOutside) {
    const auto check = [flag](const std::string& value) {
      const bool word = std::string(flag.only) == "True" || std::string(flag.only) == "False";
      if (word && !same_value(value, "True") && !same_value(value, "False"))
        return fmt::format("expected True or False, found {}", value);
      // --mm-tensor False is what the tool does whatever one says.
      if (same_value(value, flag.only) ||
          (std::string(flag.name) == "--mm-tensor" && same_value(value, "False")))
        return std::string();
      return fmt::format("{} {} ({}) is outside of what Octet does, which is W8A8 and W8A16",
                         flag.name, value, flag.what);
    };
    verb.on_text(
            flag.name, [](const std::string&) {}, flag.what)
        .check(check, fmt::format("only {}", flag.only))
        .group(kOutsideGroup);
  }
  for (const Parameter& parameter : kParameters)
    verb.on_number(
            parameter.name,
            [parameter](double value) {
              if (value != parameter.usual)
                notice(fmt::format("{} has no effect: it is a parameter of {}, which is off",
                                   parameter.name, parameter.of));
            },
            fmt::format("accepted; a parameter of {}", parameter.of))
        .group(kOutsideGroup);
}

}  // namespace octet::cli
