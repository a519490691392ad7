// `octet serve`: the OpenAI API, in place of `python -m vllm.entrypoints.openai.api_server`.
#include <fmt/format.h>
#include <signal.h>

#include <algorithm>
#include <cstdlib>
#include <memory>
#include <optional>

#include "src/base/error.h"
#include "src/base/progress.h"
#include "src/base/say.h"
#include "src/cli/cli.h"
#include "src/cli/ranks.h"
#include "src/cli/serve_ending.h"
#include "src/cli/serve_flags.h"
#include "src/cli/serve_log.h"
#include "src/dist/launch.h"
#include "src/dist/mpi_job.h"
#include "src/dist/restarts.h"
#include "src/machine/cpu.h"
#include "src/machine/topology.h"
#include "src/server/http/listener.h"
#include "src/server/unavailable.h"

namespace octet::cli {
namespace {

// A file's text, or the argument itself when it is a template.
std::optional<text::ChatTemplate> chat_template_of(const ServeFlags& f, const Runtime& runtime) {
  if (f.chat_template.empty()) return runtime.chat_template();
  const bool inline_text = f.chat_template.find('{') != std::string::npos;
  const std::string source = inline_text ? f.chat_template : read_text(f.chat_template);
  return text::ChatTemplate::from_source(
      source, text::load_special_tokens(f.runtime.tokenizer.empty() ? f.runtime.model
                                                                    : f.runtime.tokenizer));
}

constexpr double kServePatience =
    5;  // seconds that a rank may be late: there is a word every 250 ms

constexpr const char* kStartAgain = "The ranks of this server start again.";

// Starts the ranks and waits for them.
void run_ranks(const ServeFlags& f) {
  // What is wrong with the model or the address is to show once.
  make_shard(ModelFolder(f.runtime.model).config(), 0, f.tensor_parallel);
  { const server::Listener probe(f.server); }
  note_crowding(f.tensor_parallel);
  MpiJob::check_installed();
  const bool ray = f.backend == "ray";
  ::setenv(kKeysVariable, fmt::format("{}", fmt::join(f.server.api_keys, "\n")).c_str(), 1);
  Job job(f.tensor_parallel, without_keys(own_command()), ray ? Launcher::kRay : Launcher::kMpirun,
          HangUp::kGoesOn);
  Restarts restarts(f.restart_ranks);
  while (true) {
    const auto begin = std::chrono::steady_clock::now();
    const JobEnd end = job.run();
    if (end.code == 0) return;
    explain_end(end);
    if (end.interrupted) throw Exit{kInterrupted};
    if (!job.has_served()) throw Exit{end.code == 2 ? 2 : 1};  // what ended them would again
    const auto pause = restarts.next(std::chrono::steady_clock::now() - begin);
    if (!pause && restarts.most() > 0)
      say_briefly(fmt::format("octet: error: the ranks were started again {} times: enough\n",
                              restarts.most()));
    if (!pause) throw Exit{1};
    notice(fmt::format("the ranks start again in {} s ({} of {} times)", pause->count(),
                       restarts.count(), restarts.most()));
    server::Listener listener(f.server);
    const server::Unavailable unavailable(listener, f.server, kStartAgain);
    if (!job.pause(*pause)) return;
  }
}

void serve(ServeFlags& f, MpiJob* job);

void serve(ServeFlags& f) {
  resolve(f);
  if (!MpiJob::joined()) {
    if (f.tensor_parallel > 1) return run_ranks(f);
    return serve(f, nullptr);
  }
  // Before there are other threads, MPI's among them, so that none of them gets one.
  const sigset_t signals = ServeEnding::signals();
  ::pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  MpiJob job(kServePatience);
  Communicator& ranks = job.ranks();
  f.runtime.ranks = &ranks;
  try {
    check_count(f.tensor_parallel, ranks, "--tensor-parallel-size");
    note_binding(ranks);
    if (ranks.rank() == 0) {
      lead_job();
      return serve(f, &job);
    }
    // Signals are for rank 0, which tells the others: here they stay blocked.
    Runtime runtime(f.runtime);
    runtime.follow();
  } catch (...) {
    end_job(job);
  }
}

void serve(ServeFlags& f, MpiJob* job) {
  server::Listener listener(f.server);  // before anything is loaded
  std::optional<ServeEnding> ending;
  if (job != nullptr) {
    f.server.handle_signals = false;
    ending.emplace(*job, f.restart_ranks > 0);
    f.runtime.on_lost_rank = [&](const std::string& why) { ending->lose_rank(why); };
  }
  // mpirun gives ranks a terminal of its own, whoever reads it in the end.
  ServeLog log(/*color=*/job == nullptr);
  f.server.end_at_once = [&log] {
    end_soon();
    log.finish();
    say_briefly("octet: error: stopped at once, by a second signal\n");
    std::_Exit(1);
  };
  std::optional<server::Unavailable> unavailable;
  if (job_has_served()) unavailable.emplace(listener, f.server, kStartAgain);
  Runtime runtime(f.runtime);
  const EngineOptions& engine_options = runtime.engine_options();
  const uint64_t kv = engine_options.kv_blocks *
                      KvCache::block_bytes(runtime.model().shape(), engine_options.kv_type);
  log.print(fmt::format(
      "{}, {} of weights, KV cache {} ({} tokens), up to {} tokens a request; {} threads, "
      "{}\n",
      runtime.folder().type_words(), format_bytes(runtime.folder().tensors().total_bytes()),
      format_bytes(kv), engine_options.kv_blocks * kBlockTokens, engine_options.max_model_len,
      runtime.model().team().size(), isa_name(selected_isa())));
  const std::optional<text::ChatTemplate> chat = chat_template_of(f, runtime);
  server::Metrics metrics(f.server.served_model_names[0], engine_options);
  const auto engine = runtime.start(&metrics);
  unavailable.reset();
  server::Server server({*engine, runtime.tokenizer(), chat ? &*chat : nullptr, metrics}, f.server,
                        listener);
  std::optional<ServeEnding::Serving> serving;
  if (ending) serving.emplace(*ending, server);
  job_serves();
  log.print(fmt::format("Octet is ready at {}\n", server.url()));
  const size_t cut_off = server.run();
  // What the clients have not read yet is in the kernel's hands.
  if (ending && ending->lost_rank()) {
    log.finish();
    job->abort(1);
  }
  if (cut_off == 0) return;
  say_briefly(fmt::format("octet: error: stopped before {} request{} had an answer\n", cut_off,
                          cut_off == 1 ? "" : "s"));
  throw Exit{1};
}

}  // namespace

void add_serve(Verb program) {
  const Verb verb = program.verb("serve", "serves a model over the OpenAI API");
  auto f = std::make_shared<ServeFlags>();
  add_serve_flags(verb, *f);
  verb.run([f] { serve(*f); });
}

}  // namespace octet::cli
