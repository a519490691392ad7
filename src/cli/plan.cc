// `octet plan`: what a model will cost on so many hosts and ranks.
#include <fmt/format.h>

#include <algorithm>
#include <memory>

#include "src/base/error.h"
#include "src/base/progress.h"
#include "src/checkpoint/model_folder.h"
#include "src/cli/bench.h"
#include "src/cli/flags.h"
#include "src/cli/shapes.h"
#include "src/dist/cost_model.h"
#include "src/kernels/kernels.h"
#include "src/machine/memory.h"
#include "src/machine/thread_team.h"
#include "src/machine/topology.h"
#include "src/model/int8_linear.h"

namespace octet::cli {
namespace {

struct PlanFlags {
  std::string model, shape, type = scheme_name(Scheme::kW8A8), network, host;
  size_t hosts = 1, ranks = 1, threads = 0, context = 2048, batch = 1, chunk = 512;
  bool int8_kv = false, as_json = false;
};

// "A,B,..." as `count` numbers above zero.
std::vector<double> numbers(const std::string& text, size_t count, const char* flag,
                            const char* form) {
  std::vector<double> values;
  const char* at = text.c_str();
  while (*at != '\0') {
    char* end = nullptr;
    values.push_back(std::strtod(at, &end));
    if (end == at || (*end != ',' && *end != '\0') || !(values.back() > 0)) break;
    at = *end == ',' ? end + 1 : end;
  }
  if (*at != '\0' || values.size() != count)
    throw Error("no figures of this form", ErrorKind::kUsage)
        .field(flag)
        .expected(form)
        .found(text);
  return values;
}

// Speed of this host with so many threads, in about two seconds.
class HostBench {
 public:
  explicit HostBench(size_t threads)
      : team_(threads), stage_(kRows, kK, 1), x_(kRows * kK), y_(kRows * kN) {
    const std::vector<int8_t> w(kN * kK, 1);
    const W8A8Params params{0.01f, 0, std::vector<int32_t>(kN, 0), std::vector<float>(kN, 0.01f)};
    for (size_t i = 0; i < kCopies; ++i)
      linears_.push_back(std::make_unique<W8A8Linear>(
          std::make_shared<const Int8Weights>(w.data(), kN, kK, team_), params));
  }

  HostSpeed measure() {
    HostSpeed speed;
    speed.bytes = memory_limit_bytes();
    for (size_t round = 0; round < kRounds; ++round) {
      double read = 0;  // seconds of one row, whose weights come from memory
      for (const auto& linear : linears_) read += product(*linear, 1);
      speed.memory =
          std::max(speed.memory, static_cast<double>(kCopies * linears_[0]->bytes()) / read);
      speed.int8_ops =
          std::max(speed.int8_ops, 2.0 * kRows * kN * kK / product(*linears_[0], kRows));
      const double peak = peak_rate(team_, kernels::table().float_peak);
      speed.float_ops = std::max(speed.float_ops, kFloatShare * peak);
    }
    return speed;
  }

 private:
  static constexpr size_t kN = 4096, kK = 2048, kCopies = 24, kRounds = 5, kRows = 256;
  static constexpr double kFloatShare = 0.8;  // of the multiply-add's rate: bench/RESULTS.md

  double product(W8A8Linear& linear, size_t rows) {
    return seconds_of([&] {
      team_.run([&](Worker& worker) {
        const Rows in = {x_.data(), kK, rows};
        linear.stage(worker, in, stage_, 0);
        worker.barrier();
        linear.compute(worker, in, {y_.data(), kN}, stage_, 0);
      });
    });
  }

  ThreadTeam team_;
  StageBuffer stage_;
  Buffer<float> x_, y_;
  std::vector<std::unique_ptr<W8A8Linear>> linears_;
};

HostSpeed measure_host(size_t threads) {
  if (const size_t cpus = allowed_cpus().size(); threads > cpus)
    throw usage_error("more threads than there are CPUs for this process")
        .field("--threads")
        .expected(fmt::format("at most {}", cpus))
        .found(std::to_string(threads))
        .remedy("for another machine give its figures: --host");
  return HostBench(threads).measure();
}

ordered_json terms_json(const std::vector<PlanTerm>& terms) {
  ordered_json all;
  for (const PlanTerm& t : terms) all[t.name] = t.seconds;
  all["total"] = total(terms);
  return all;
}

void print_terms(const std::string& title, const std::vector<PlanTerm>& terms) {
  std::vector<std::vector<std::string>> rows = {{title, "ms"}};
  for (const PlanTerm& t : terms) rows.push_back({t.name, fmt::format("{:.3f}", 1e3 * t.seconds)});
  rows.push_back({"together", fmt::format("{:.3f}", 1e3 * total(terms))});
  fmt::print("{}\n", format_table(rows, {false, true}));
}

// What is planned: a folder's model, or a known shape with all linears of its layers of one type.
struct Model {
  ModelConfig config;
  CostModel::SchemeOf scheme;
  bool int8_kv = false;
};

Model model_of(const PlanFlags& f) {
  if (f.model.empty() == f.shape.empty()) throw usage_error("octet plan: --model or --shape");
  if (!f.shape.empty()) {
    const Scheme scheme = scheme_of_flag(f.type);
    return {ModelConfig::parse(shape_config(f.shape), "config.json"),
            [scheme](const std::string& name) { return name == kHead ? Scheme::kFloat : scheme; }};
  }
  const auto folder = std::make_shared<const ModelFolder>(f.model);
  return {folder->config(), [folder](const std::string& name) { return folder->scheme(name); },
          folder->int8_kv()};
}

void plan(const PlanFlags& f) {
  const Model model = model_of(f);
  const size_t threads = f.threads != 0 ? f.threads : default_thread_count();  // that measure
  PlanOptions o;
  o.ranks = f.ranks;
  o.hosts = std::min(f.hosts, f.ranks);
  o.context = f.context;
  o.chunk = f.chunk;
  o.kv_element = f.int8_kv || model.int8_kv ? 1 : 2;
  if (f.host.empty()) {
    o.host = measure_host(threads);
  } else if (f.threads != 0) {
    throw usage_error("measures this machine, and --host says what another can").field("--threads");
  } else {
    const auto v =
        numbers(f.host, 4, "--host", "GB/s,int8 Gop/s,float Gop/s,GB of memory: 200,3000,1500,256");
    o.host = {v[0] * 1e9, v[1] * 1e9, v[2] * 1e9, static_cast<uint64_t>(v[3] * 1e9)};
  }
  if (!f.network.empty()) {
    const auto v = numbers(f.network, 2, "--network", "GB/s,us: 1.25,50");
    o.network = {v[0] * 1e9, v[1] * 1e-6};
  }
  const CostModel cost(model.config, model.scheme, o);
  const auto decode = cost.decode(f.batch), prefill = cost.prefill();
  const double prefill_speed = static_cast<double>(f.chunk) / total(prefill);
  const double decode_speed = static_cast<double>(f.batch) / total(decode);
  if (f.as_json) {
    fmt::print("{}\n", ordered_json({{"ranks", f.ranks},
                                     {"hosts", o.hosts},
                                     {"threads", f.host.empty() ? threads : 0},
                                     {"host",
                                      {{"memory", o.host.memory},
                                       {"int8_ops", o.host.int8_ops},
                                       {"float_ops", o.host.float_ops},
                                       {"bytes", o.host.bytes}}},
                                     {"weights_a_rank", cost.weight_bytes()},
                                     {"kv_a_sequence", cost.sequence_bytes()},
                                     {"buffers", cost.buffer_bytes()},
                                     {"largest_batch", cost.largest_batch()},
                                     {"decode_seconds", terms_json(decode)},
                                     {"decode_tokens_per_second", decode_speed},
                                     {"prefill_seconds", terms_json(prefill)},
                                     {"prefill_tokens_per_second", prefill_speed}})
                           .dump(2));
    return;
  }
  fmt::print(
      "{} ranks on {} host{}, {} a host; a host reads {:.1f} GB/s, multiplies {:.0f} int8 and "
      "{:.0f} float "
      "Gop/s, has {}{}\n\n",
      f.ranks, o.hosts, o.hosts == 1 ? "" : "s", cost.ranks_per_host(), o.host.memory / 1e9,
      o.host.int8_ops / 1e9, o.host.float_ops / 1e9, format_bytes(o.host.bytes),
      !f.host.empty()  ? ""
      : f.threads == 0 ? " (measured here)"
                       : fmt::format(" (measured here with --threads {})", f.threads));
  print_terms(fmt::format("decode step of {} sequence{} of {} tokens", f.batch,
                          f.batch == 1 ? "" : "s", f.context),
              decode);
  print_terms(fmt::format("prefill of {} tokens in a context of {}", f.chunk, f.context), prefill);
  fmt::print("{:.1f} tokens a second generated, {:.0f} of prompts\n", decode_speed, prefill_speed);
  fmt::print("a rank holds {} of weights, {} of buffers and {} a sequence: {} sequences at once\n",
             format_bytes(cost.weight_bytes()), format_bytes(cost.buffer_bytes()),
             format_bytes(cost.sequence_bytes()), cost.largest_batch());
  if (cost.largest_batch() == 0)
    fmt::print("this does not fit: more hosts, or hosts with more memory\n");
}

}  // namespace

void add_plan(Verb program) {
  const Verb verb = program.verb("plan", "predicts speed and memory on many hosts");
  auto f = std::make_shared<PlanFlags>();
  verb.text("--model,MODEL", f->model, "folder of the checkpoint");
  verb.text("--shape", f->shape, "in place of a checkpoint: " + shape_names());
  verb.text("--type", f->type, "with --shape, of the layers: " + scheme_names())
      .only_with("--shape", ": a checkpoint says its own")
      .show_default();
  verb.integer("--hosts", f->hosts, "hosts").range(1, 1 << 16).show_default();
  verb.integer("--tensor-parallel-size,--tp", f->ranks, "ranks, over all hosts")
      .range(1, 1 << 16)
      .show_default();
  verb.text("--network", f->network,
            "between hosts: GB/s of a host, us of a message; default 1.25,50 (10 Gbit/s)");
  verb.text(
      "--host", f->host,
      "a host's speed: GB/s of memory, Gop/s of int8 and of float products, GB of memory; default: "
      "measured here");
  verb.integer("--threads", f->threads,
               "threads that measure this machine; default: as many as serve takes")
      .range(1, 1 << 16);
  verb.integer("--context", f->context, "tokens of a sequence").range(1, 1 << 24).show_default();
  verb.integer("--batch", f->batch, "sequences that generate at once")
      .range(1, 1 << 20)
      .show_default();
  verb.integer("--chunk", f->chunk, "prompt tokens of one step").range(1, 1 << 20).show_default();
  verb.toggle("--int8-kv", f->int8_kv, "an int8 KV cache, whatever the checkpoint says");
  verb.toggle("--json", f->as_json, "the figures as JSON");
  verb.run([f, verb] {
    verb.expect_companions();
    plan(*f);
  });
}

}  // namespace octet::cli
