// `octet convert`: a GGUF file to a float checkpoint folder; a quantized folder to another layout.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <functional>
#include <memory>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/output_folder.h"
#include "src/base/progress.h"
#include "src/cli/cli.h"
#include "src/cli/flags.h"
#include "src/quant/relayout/relayout.h"
#include "src/text/gguf_convert.h"

namespace octet::cli {
namespace {

struct ConvertFlags {
  std::string folder, out_folder;  // positional
  std::string to, from_gguf, out, dtype, tokenizer;
  double part_file_size = 5;
  bool overwrite = false, quiet = false;
};

uint64_t part_bytes(const ConvertFlags& f) {
  if (!(f.part_file_size >= 0 && f.part_file_size < 1e6))
    throw usage_error("--part_file_size: expected a size in GB; 0 = one file");
  return static_cast<uint64_t>(f.part_file_size * (1 << 30));
}

// Shows a bar from the first call on.
class Shown {
 public:
  explicit Shown(bool quiet) : quiet_(quiet) {}
  void operator()(int64_t done, int64_t total, const std::string& name) {
    if (!progress_) progress_ = std::make_unique<Progress>("convert", "tensor", total, quiet_);
    progress_->update(done, name);
  }
  void finish() {
    if (progress_) progress_->finish();
  }

 private:
  bool quiet_;
  std::unique_ptr<Progress> progress_;
};

void from_gguf(const ConvertFlags& f) {
  if (!f.to.empty()) throw usage_error("--from_gguf gives a float checkpoint: leave --to out");
  text::GgufConvertOptions options;
  options.dtype = f.dtype == "float16" ? DType::kF16 : DType::kBF16;
  options.overwrite = f.overwrite;
  options.part_bytes = part_bytes(f);
  options.tokenizer = f.tokenizer;
  refuse_overlap(f.from_gguf, f.out);
  Shown shown(f.quiet);
  text::convert_gguf(f.from_gguf, f.out, options, std::ref(shown));
  shown.finish();
}

void to_layout(const ConvertFlags& f) {
  if (f.to.empty())
    throw Error("say which layout is wanted", ErrorKind::kUsage)
        .field("--to")
        .expected(fmt::format("{}", fmt::join(layout_names(), ", ")));
  if (!f.dtype.empty()) throw usage_error("--dtype goes with --from_gguf");
  if (!f.tokenizer.empty()) throw usage_error("--tokenizer goes with --from_gguf");
  Shown shown(f.quiet);
  const RelayoutResult result =
      relayout(f.folder, f.out, {*parse_layout(f.to), part_bytes(f), f.overwrite}, std::ref(shown));
  shown.finish();
  for (const std::string& note : result.notes) notice(note);
  if (result.way_back)
    notice(fmt::format("{} was made from a folder in the layout {}: this is it again", f.folder,
                       f.to));
}

void convert(ConvertFlags& f) {
  if (f.folder.empty() == f.from_gguf.empty())
    throw usage_error("give one of FOLDER (a quantized checkpoint) and --from_gguf FILE");
  if (f.out_folder.empty() == f.out.empty()) throw usage_error("give one of OUT and --out");
  if (f.out.empty()) f.out = f.out_folder;
  f.from_gguf.empty() ? to_layout(f) : from_gguf(f);
  if (!f.quiet) fmt::print("{}\n", f.out);
}

}  // namespace

void add_convert(Verb program) {
  const Verb verb =
      program.verb("convert", "GGUF -> float checkpoint; quantized checkpoint -> another layout");
  auto f = std::make_shared<ConvertFlags>();
  verb.text("FOLDER", f->folder, "a quantized checkpoint, in any of the layouts of --to");
  verb.text("OUT", f->out_folder, "the folder to write");
  verb.text("--to", f->to, "the layout wanted").one_of(layout_names());
  verb.text("--from-gguf", f->from_gguf, "the file to read; of a split model the first part")
      .metavar("FILE");
  verb.text("--out", f->out, "OUT by another name").metavar("DIR");
  verb.text("--dtype", f->dtype, "of the tensors of a GGUF file; bfloat16 if absent")
      .one_of({"bfloat16", "float16"});
  verb.text("--tokenizer", f->tokenizer,
            "the folder of the model that a GGUF file was made of: its tokenizer, templates and "
            "licence are taken in place of the file's tokenizer")
      .metavar("DIR");
  verb.number("--part-file-size", f->part_file_size, "largest weight file in GB; 0 = one file")
      .show_default();
  verb.toggle("--overwrite", f->overwrite, "replace the folder if it holds a model");
  verb.toggle("--quiet", f->quiet, "no progress");
  verb.run([f] { convert(*f); });
}

}  // namespace octet::cli
