#include "src/quant/relayout/relayout.h"

#include "src/base/error.h"
#include "src/base/output_folder.h"
#include "src/checkpoint/side_files.h"
#include "src/quant/relayout/relayout_back.h"
#include "src/quant/relayout/relayout_plan.h"

namespace octet {
namespace {

void write_plan(const LayoutPlan& plan, const fs::path& target, uint64_t part_bytes,
                const std::function<void(int64_t, int64_t, const std::string&)>& progress) {
  std::vector<TensorSpec> specs;
  for (const PlannedTensor& t : plan.tensors) specs.push_back(t.spec);
  SafetensorsWriter writer(target, specs, {plan.stem, part_bytes, plan.metadata});
  int64_t done = 0;
  for (const PlannedTensor& t : plan.tensors) {
    if (progress) progress(done++, static_cast<int64_t>(specs.size()), t.spec.name);
    const std::vector<std::byte> data = t.make();
    if (data.size() != t.spec.bytes())
      throw Error("a tensor of another size than its shape says").tensor(t.spec.name);
    writer.write(t.spec.name, data);
  }
  writer.finish();
  write_text(target / "config.json", plan.config);
  if (!plan.description_name.empty()) write_text(target / plan.description_name, plan.description);
}

}  // namespace

RelayoutResult relayout(const fs::path& folder, const fs::path& out, const RelayoutOptions& options,
                        const std::function<void(int64_t, int64_t, const std::string&)>& progress) {
  refuse_overlap(folder, out);
  const QuantizedSource source(folder);
  RelayoutResult result{source.layout(), false, {}};
  if (source.layout() == options.to)
    throw Error("the folder is in this layout already", ErrorKind::kUsage)
        .file(folder.string())
        .found(layout_name(options.to));
  OutputFolder output(out, options.overwrite);
  uint64_t part_bytes = options.part_bytes;
  result.way_back = way_back(folder) == options.to;
  const LayoutPlan plan =
      result.way_back ? plan_way_back(source, part_bytes) : plan_layout(source, options.to);
  write_plan(plan, output.path(), part_bytes, progress);
  copy_side_files(folder, output.path());
  if (!result.way_back) keep_way_back(source, output.path());
  result.notes = plan.notes;
  output.commit();
  return result;
}

}  // namespace octet
