#include "src/eval/layer_noise.h"

#include <algorithm>

#include "src/base/checked.h"
#include "src/base/decibels.h"
#include "src/eval/basis.h"
#include "src/model/input_grid.h"
#include "src/model/tap_linear.h"

namespace octet {
namespace {

struct Slice {
  LayerLinear linear;
  size_t begin, end;  // columns of the part's output
};

// The linears of a part, side by side.
std::vector<Slice> slices(const ModelConfig& c, size_t layer, LayerPart part) {
  std::vector<Slice> all;
  size_t at = 0;
  for (const LayerLinear& l : layer_linears(c, static_cast<int64_t>(layer), part)) {
    all.push_back({l, at, at + l.shape.n});
    at += l.shape.n;
  }
  return all;
}

// Sums over tokens, by channel, of a reference's values, a model's, and of their products.
class ChannelSums {
 public:
  void add(const std::vector<float>& reference, const std::vector<float>& model) {
    sums_.resize(reference.size());
    for (size_t i = 0; i < reference.size(); ++i) {
      const double r = double{reference[i]}, m = double{model[i]};
      sums_[i].r += r;
      sums_[i].m += m;
      sums_[i].rr += r * r;
      sums_[i].rm += r * m;
      sums_[i].mm += m * m;
    }
    tokens_ += 1;
  }
  // The signal is the reference; where a channel has a scale, its best multiple in each, and where
  // its mean is free, a mean error does not count.
  std::optional<double> snr(Basis::Freedom freedom) const {
    double signal = 0, noise = 0;
    for (const Sums& s : sums_) {
      const double free = freedom == Basis::Freedom::kScaleAndMean ? 1 / tokens_ : 0;
      const double rr = s.rr - free * s.r * s.r, rm = s.rm - free * s.r * s.m;
      const double factor = freedom == Basis::Freedom::kNone ? 1 : rr > 0 ? rm / rr : 0;
      signal += factor * factor * s.rr;
      noise += s.mm - free * s.m * s.m - 2 * factor * rm + factor * factor * rr;
    }
    return decibels(signal, noise);
  }

 private:
  struct Sums {
    double r = 0, m = 0, rr = 0, rm = 0, mm = 0;
  };
  std::vector<Sums> sums_;
  double tokens_ = 0;
};

struct PartSums {
  std::optional<InputGrid> grid;
  SignalNoise rounding;
  ChannelSums input;
  std::vector<ChannelSums> outputs;  // by slice
};

}  // namespace

struct LayerNoise::Watched {
  const ModelFolder& folder;
  Basis basis;
  std::vector<std::array<PartSums, kLayerParts>> sums;  // by layer and part
};

LayerNoise::LayerNoise(const std::vector<Transformer*>& models)
    : seen_(as_size(models[0]->config().layers)) {
  for (size_t i = 0; i < models.size(); ++i) {
    Watched* watched = nullptr;
    if (i > 0) {
      const ModelFolder& folder = models[i]->folder();
      watched =
          models_
              .emplace_back(new Watched{
                  folder, Basis(models[0]->folder(), folder),
                  std::vector<std::array<PartSums, kLayerParts>>(as_size(folder.config().layers))})
              .get();
    }
    models[i]->wrap_linears([&](size_t layer, LayerPart part, std::unique_ptr<Linear> linear) {
      const size_t k = linear->inputs(), n = linear->outputs(), p = static_cast<size_t>(part);
      Tap input, output;
      if (watched == nullptr) {
        const auto keep = [this](Worker& w, std::vector<float>& to, const Rows& v, size_t columns) {
          if (w.id() != 0) return;
          to.clear();
          for (size_t r = 0; watching_ && r < v.m; ++r)
            to.insert(to.end(), v.x + r * v.ld, v.x + r * v.ld + columns);
        };
        Seen& seen = seen_[layer][p];
        input = [=, &seen](Worker& w, const Rows& x) { keep(w, seen.x, x, k); };
        output = [=, &seen](Worker& w, const Rows& y) { keep(w, seen.y, y, n); };
      } else {
        PartSums& sums = watched->sums[layer][p];
        const std::vector<Slice> of = slices(watched->folder.config(), layer, part);
        sums.outputs.resize(of.size());
        sums.grid = input_grid(watched->folder, of[0].linear.full_name);
        input = [this, watched, layer, part](Worker& w, const Rows& x) {
          if (watching_ && w.id() == 0) compare(*watched, layer, part, x);
        };
        output = [this, watched, layer, part](Worker& w, const Rows& y) {
          if (watching_ && w.id() == 0) compare_output(*watched, layer, part, y);
        };
      }
      return std::make_unique<TapLinear>(std::move(linear), std::move(input), std::move(output));
    });
  }
}

LayerNoise::~LayerNoise() = default;

void LayerNoise::compare(Watched& model, size_t layer, LayerPart part, const Rows& x) {
  PartSums& sums = model.sums[layer][static_cast<size_t>(part)];
  const std::vector<float>& seen = seen_[layer][static_cast<size_t>(part)].x;
  const size_t k = slices(model.folder.config(), layer, part)[0].linear.shape.k;
  const size_t k_seen = seen.size() / x.m;
  std::vector<float> rounded(k);
  for (size_t r = 0; r < x.m; ++r) {
    const float* row = x.x + r * x.ld;
    if (sums.grid) {
      sums.grid->round(row, k, rounded.data());
      for (size_t i = 0; i < k; ++i) sums.rounding.add(double{row[i]}, double{rounded[i]});
    }
    std::vector<float> reference(seen.begin() + static_cast<ptrdiff_t>(r * k_seen),
                                 seen.begin() + static_cast<ptrdiff_t>((r + 1) * k_seen));
    std::vector<float> own(row, row + k);
    if (model.basis.input(layer, part, reference, own)) sums.input.add(reference, own);
  }
}

void LayerNoise::compare_output(Watched& model, size_t layer, LayerPart part, const Rows& y) {
  PartSums& sums = model.sums[layer][static_cast<size_t>(part)];
  const std::vector<float>& seen = seen_[layer][static_cast<size_t>(part)].y;
  const std::vector<Slice> of = slices(model.folder.config(), layer, part);
  const size_t n_seen = seen.size() / y.m;
  for (size_t s = 0; s < of.size(); ++s) {
    // The reference's columns: the same, but for gate and up with another number of channels.
    const size_t width = part == LayerPart::kGateUp ? n_seen / 2 : of[s].end - of[s].begin;
    const size_t begin = part == LayerPart::kGateUp ? s * width : of[s].begin;
    if (begin + width > n_seen) continue;
    for (size_t r = 0; r < y.m; ++r) {
      const float* from = seen.data() + r * n_seen + begin;
      std::vector<float> reference(from, from + width);
      const float* row = y.x + r * y.ld;
      std::vector<float> own(row + of[s].begin, row + of[s].end);
      if (model.basis.output(layer, of[s].linear.kind, reference, own))
        sums.outputs[s].add(reference, own);
    }
  }
}

std::vector<LinearNoise> LayerNoise::of(size_t model) const {
  const Watched& watched = *models_.at(model - 1);
  std::vector<LinearNoise> all;
  for (size_t layer = 0; layer < watched.sums.size(); ++layer)
    for (const PartRow& row : part_rows()) {
      const LayerPart part = row.part;
      const PartSums& sums = watched.sums[layer][static_cast<size_t>(part)];
      const std::vector<Slice> of = slices(watched.folder.config(), layer, part);
      for (size_t s = 0; s < of.size(); ++s) {
        const std::string& name = of[s].linear.full_name;
        all.push_back({name, scheme_name(watched.folder.scheme(name)), sums.rounding.ratio(),
                       sums.input.snr(watched.basis.freedom(part)),
                       sums.outputs[s].snr(watched.basis.freedom(of[s].linear.kind))});
      }
    }
  return all;
}

ordered_json to_json(const std::vector<LinearNoise>& linears) {
  ordered_json list = ordered_json::array();
  for (const LinearNoise& l : linears) {
    ordered_json& row = list.emplace_back(ordered_json{{"name", l.name}, {"type", l.type}});
    if (l.rounding) row["rounding"] = *l.rounding;
    if (l.input) row["input"] = *l.input;
    if (l.output) row["output"] = *l.output;
  }
  return list;
}

}  // namespace octet
