#include "src/quant/quantizer.h"

#include <fmt/format.h>
#include <unistd.h>

#include <new>

#include "src/base/error.h"
#include "src/base/output_folder.h"
#include "src/base/progress.h"
#include "src/quant/layer/float_layer.h"
#include "src/quant/layerwise/layerwise.h"
#include "src/quant/memory_plan.h"
#include "src/quant/msmodelslim/samplewise.h"
#include "src/quant/output/fingerprint.h"
#include "src/quant/output/report_file.h"

namespace octet {
namespace {

void check_batches(const std::vector<TokenBatch>& batches, const ModelConfig& config,
                   size_t max_tokens) {
  for (size_t i = 0; i < batches.size(); ++i)
    for (const std::vector<int32_t>& sequence : batches[i]) {
      if (sequence.empty() || sequence.size() > max_tokens)
        throw Error("a calibration sample of the wrong length", ErrorKind::kUsage)
            .field(fmt::format("sample {}", i))
            .expected(fmt::format("1 to {} tokens", max_tokens))
            .found(std::to_string(sequence.size()));
      for (int32_t id : sequence)
        if (id < 0 || id >= config.vocab_size)
          throw Error("a calibration token is outside the vocabulary", ErrorKind::kUsage)
              .field(fmt::format("sample {}", i))
              .expected(fmt::format("0 to {}", config.vocab_size - 1))
              .found(std::to_string(id));
    }
}

// `or_else`: what there is beside giving some.
Error no_samples(const std::string& why, const std::string& or_else) {
  return usage_error("no calibration samples: " + why)
      .field("--calib_file")
      .remedy("give a --calib_file; " + or_else);
}

void check_data(const CalibrationData& data, const ModelConfig& config, const QuantizeOptions& o) {
  if (data.samples.empty()) {
    const bool practice = o.practice() != nullptr;
    if (has_static_ranges(o))
      throw no_samples("static ranges of activations are learnt from them",
                       o.layerwise() ? "recipes learn from text"
                       : practice    ? "a practice with scales per token or W8A16 needs none"
                                     : "--is_dynamic True and --a_bit 16 need none");
    const ToolMethod& tool = o.tool();
    if (o.output.quantize_kv_cache || tool.key_smooth)
      throw no_samples("the KV cache's scales are learnt from them",
                       "without an int8 KV cache and kv_smooth none is needed");
    if (data.outlier.empty() && learns_from_outliers(tool))
      throw practice
          ? no_samples("outlier suppression learns from them", "a practice without it needs none")
          : no_samples("outlier suppression and --disable_threshold learn from them",
                       "or an --anti_calib_file for these");
  }
  // The tool takes lines of any length.
  const size_t longest =
      is_msmodelslim_v0(o.output.layout) ? SIZE_MAX : static_cast<size_t>(config.max_position);
  check_batches(data.samples, config, longest);
  check_batches(data.outlier, config, longest);
}

// What `work` throws, with how to go on when the folder keeps finished layers. They fit the model's
// files as they are, so nothing is kept when one of its tensors is what is wrong.
void keep_for_resume(const OutputFolder& output, Journal& journal,
                     const std::function<void()>& work) {
  const auto remedy = [&](const char* when) -> std::string {
    try {
      journal.wait();                  // the first layer may be on its way
    } catch (const std::exception&) {  // `work` has thrown, which counts
    }
    if (OutputFolder::resumable(output.target()).empty()) return {};
    return output.partial().string() +
           fmt::format(" keeps the finished layers: {}the same command with --resume goes on",
                       when);
  };
  try {
    work();
  } catch (Interrupted& e) {
    e.remedy = remedy("");
    throw;
  } catch (Error& e) {
    if (!e.tensor_name().empty()) {
      journal.drop();
      throw;
    }
    if (const std::string text = remedy("when this is mended, "); !text.empty()) e.add_remedy(text);
    throw;
  } catch (const std::bad_alloc&) {
    throw Error("out of memory").remedy(remedy("with more of it, "));
  }
}

// For activations of a rank that writes no result: beside the result, where its host has that, too.
fs::path spill_folder(const fs::path& target) {
  const fs::path beside = fs::absolute(target).parent_path();
  return ::access(beside.c_str(), W_OK) == 0 ? beside : fs::temp_directory_path();
}

}  // namespace

ModelFolder open_float_model(const fs::path& model) {
  ModelFolder folder(model);
  if (folder.quantized())
    throw Error("the model is quantized already", ErrorKind::kUsage)
        .file(model.string())
        .remedy("start from the float checkpoint");
  expect_float_model(folder);
  return folder;
}

QuantizeSummary quantize(const fs::path& model, const fs::path& target, const CalibrationData& data,
                         const QuantizeOptions& options, const Finish& finish,
                         Communicator* several) {
  refuse_overlap(model, target);
  const ModelFolder folder = open_float_model(model);
  check_data(data, folder.config(), options);
  const std::unique_ptr<Communicator> alone = solo_communicator();
  Communicator& ranks = several == nullptr ? *alone : *several;
  ThreadTeam team;
  const OutputSettings& result = options.output;
  const RunSettings& run = options.run;
  const bool as_the_tool = is_msmodelslim_v0(result.layout);
  ReportData gathered(stored_types(result.layout, folder.config().dtype).floats, team);
  ReportData* report = as_the_tool ? nullptr : &gathered;
  const Recipe* recipe = options.layerwise();
  const uint64_t budget =
      activation_budget(layer_memory(folder.config(), recipe, calibration_tokens(data)),
                        run.memory_limit, ranks.on_host());
  QuantizeSummary summary;
  const auto work = [&](const fs::path& files, const fs::path& scratch, Journal& journal) {
    journal.share(ranks);
    ActivationMemory memory(scratch, budget);
    const RunContext context{files, journal, memory, report, team, ranks, run.quiet};
    summary.kept = recipe != nullptr
                       ? quantize_layerwise(folder, data, *recipe, result, context)
                       : quantize_samplewise(folder, data, options.tool(), result, context);
    ranks.throw_failure();
  };
  const auto fingerprint_now = [&] { return fingerprint_of(folder, data, result, options.method); };
  if (ranks.rank() != 0) {
    Journal journal(fingerprint_now());
    work({}, spill_folder(target), journal);
    ranks.meet();
    ranks.throw_failure();
    return summary;
  }
  OutputFolder output(target, run.overwrite, run.resume);
  const Fingerprint fingerprint = fingerprint_now();
  Journal journal(output, fingerprint);
  keep_for_resume(output, journal, [&] {
    work(output.path(), output.partial(), journal);
    if (fingerprint_now() != fingerprint) {
      journal.drop();
      throw Error("the model's files changed while they were read").file(model.string());
    }
    const std::optional<Recipe> whole = options.whole_recipe();
    const PracticeYaml* practice = options.practice();
    if (whole && !as_the_tool) write_text(output.path() / "octet_recipe.yaml", to_yaml(*whole));
    if (practice != nullptr && !as_the_tool)
      write_text(output.path() / "octet_practice.yaml", practice->text);
    const ModelFolder written(output.path());
    summarize(folder, written, summary);
    summary.method = whole                 ? "by the recipe " + whole->name
                     : practice != nullptr ? "by a practice of msModelSlim v1"
                                           : "in msModelSlim's way";
    summary.seconds = journal.seconds();
    if (report != nullptr) {
      ordered_json all = report_json(folder, written, data, options, summary, *report);
      if (finish) finish(output.path(), all);
      write_text(output.path() / kReportFile, all.dump(1) + "\n");
    }
    output.commit();
    ranks.meet();
  });
  return summary;
}

}  // namespace octet
