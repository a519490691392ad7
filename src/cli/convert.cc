// `octet convert`: other formats to a float checkpoint folder.
#include <fmt/format.h>

#include <memory>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/progress.h"
#include "src/cli/cli.h"
#include "src/text/gguf_convert.h"

namespace octet::cli {
namespace {

struct Flags {
  std::string from_gguf, out, dtype = "bfloat16";
  double part_file_size = 5;
  bool overwrite = false, quiet = false;
};

void run(const Flags& f) {
  text::GgufConvertOptions options;
  options.dtype = f.dtype == "float16" ? DType::kF16 : DType::kBF16;
  options.overwrite = f.overwrite;
  if (!(f.part_file_size > 0 && f.part_file_size < 1e6))
    throw usage_error("--part_file_size: expected a size in GB, more than 0");
  options.part_bytes = static_cast<uint64_t>(f.part_file_size * (1 << 30));
  refuse_overlap(f.from_gguf, f.out);
  std::unique_ptr<Progress> progress;
  text::convert_gguf(f.from_gguf, f.out, options,
                     [&](int64_t done, int64_t total, const std::string& name) {
                       if (!progress)
                         progress = std::make_unique<Progress>("convert", "tensor", total, f.quiet);
                       progress->update(done, name);
                     });
  if (progress) progress->finish();
  if (!f.quiet) fmt::print("{}\n", f.out);
}

}  // namespace

void add_convert(CLI::App& app) {
  CLI::App* sub = app.add_subcommand("convert", "GGUF -> float checkpoint folder");
  auto f = std::make_shared<Flags>();
  sub->add_option("--from-gguf", f->from_gguf, "the file to read")->required()->type_name("FILE");
  sub->add_option("--out", f->out, "the folder to write")->required()->type_name("DIR");
  sub->add_option("--dtype", f->dtype, "of the tensors written")
      ->check(CLI::IsMember({"bfloat16", "float16"}))
      ->capture_default_str();
  sub->add_option("--part-file-size", f->part_file_size, "largest weight file in GB")
      ->capture_default_str();
  sub->add_flag("--overwrite", f->overwrite, "replace the folder if it exists");
  sub->add_flag("--quiet", f->quiet, "no progress");
  sub->callback([f] { run(*f); });
}

}  // namespace octet::cli
