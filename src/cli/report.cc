// `octet report`: the page about a quantized checkpoint, made again.
#include <fmt/format.h>

#include <memory>

#include "src/base/error.h"
#include "src/cli/cli.h"
#include "src/cli/compared_models.h"
#include "src/eval/report_page.h"
#include "src/quant/output/report_file.h"

namespace octet::cli {
namespace {

struct ReportFlags {
  std::string folder, reference;
  TextFlags text;
  bool quiet = false;
};

void write_report(const ReportFlags& f) {
  if (f.reference.empty() != f.text.file.empty())
    throw usage_error("--float and --text go together: the models are compared on text");
  if (!fs::is_directory(f.folder)) throw Error("is not a folder").file(f.folder);
  const fs::path file = fs::path(f.folder) / kReportFile;
  if (!fs::exists(file))
    throw Error("no report in this folder")
        .file(file.string())
        .remedy("octet quantize writes one, except with --compat msmodelslim");
  ordered_json report = parse_ordered_json(read_text(file), file.string());
  if (!f.reference.empty()) report["measured"] = measure(f.reference, f.folder, f.text, f.quiet);
  const std::string page = report_page(report, file.string());
  write_text(file, report.dump(1) + "\n");
  write_text(fs::path(f.folder) / kReportPage, page);
  fmt::print("{}\n", (fs::path(f.folder) / kReportPage).string());
}

}  // namespace

void add_report(Verb program) {
  const Verb verb = program.verb("report", "the page about a quantized checkpoint");
  auto f = std::make_shared<ReportFlags>();
  verb.text("folder", f->folder, "a folder that `octet quantize` wrote").required();
  verb.text("--float", f->reference, "the float model: measures what quantization cost, on --text");
  add_text_flags(verb, f->text, /*questions=*/false);
  verb.toggle("--quiet", f->quiet, "no progress");
  verb.run([f, verb] {
    verb.expect_companions();
    write_report(*f);
  });
}

}  // namespace octet::cli
