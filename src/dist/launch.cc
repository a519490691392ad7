#include "src/dist/launch.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <thread>

#include "src/base/error.h"
#include "src/dist/mpi_job.h"

namespace octet {
namespace {

// A folder that the ranks of a job share, and the files in it: the leading rank's process; once a
// rank has said why the job ends; once a rank has answered clients; once the user wants the end.
constexpr const char *kPlace = "OCTET_JOB", *kLeader = "leader", *kExplained = "explained",
                     *kServed = "served", *kInterrupted = "interrupted";

constexpr int kEnding[] = {SIGINT, SIGTERM, SIGHUP};

using Clock = std::chrono::steady_clock;

// mpirun, if told to end before there were ranks, is told again so much later: while it starts it
// may lose the signal. Not sooner: two signals make it crash while it ends by the first.
constexpr auto kHeard = std::chrono::seconds(5);

// For the signal handler: mpirun, whether it was called, and mpirun told, and whether SIGHUP is no
// end; the file with the leading rank's process, and the one that tells the ranks that it was
// called.
volatile sig_atomic_t child = 0, told_to_end = 0, told_launcher = 0, hang_up_goes_on = 0;
char leader_file[4096], interrupted_file[4096];

// Whether this process has created the file.
bool create_file(const char* file) {
  const int fd = ::open(file, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  if (fd >= 0) ::close(fd);
  return fd >= 0;
}

// 0 if there is none on this host, or none yet.
pid_t leader() {
  const int file = ::open(leader_file, O_RDONLY | O_CLOEXEC);
  if (file < 0) return 0;
  pid_t pid = 0;
  if (::read(file, &pid, sizeof(pid)) != sizeof(pid)) pid = 0;
  ::close(file);
  return pid;
}

void pass_on(int signal) {
  const pid_t first = leader();
  if (signal == SIGHUP && hang_up_goes_on != 0) {
    if (first > 0) ::kill(first, SIGHUP);
    return;
  }
  told_to_end = 1;
  create_file(interrupted_file);
  if (first > 0) {
    ::kill(first, SIGINT);
  } else if (child > 0) {
    told_launcher = 1;
    ::kill(static_cast<pid_t>(child), signal);
  }
}

// A signal that the user's shell ignores (nohup) stays so.
void take_signal(int signal, void (*handler)(int)) {
  if (::signal(signal, handler) == SIG_IGN) ::signal(signal, SIG_IGN);
}

// As one word of the shell.
std::string quoted(const std::string& word) {
  std::string out = "'";
  for (char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::vector<std::string> mpirun_words(size_t ranks) {
  std::vector<std::string> words = {"mpirun"};
  if (::geteuid() == 0) words.push_back("--allow-run-as-root");
  for (const char* word : {"--quiet", "--oversubscribe", "--bind-to", "none", "--stdin", "none"})
    words.push_back(word);
  // Not on the hosts that a batch system, or a file of Open MPI's, may name.
  const std::string count = std::to_string(ranks);
  words.insert(words.end(), {"--mca", "ras", "^alps,gridengine,lsf,slurm,tm", "--host",
                             "localhost:" + count, "-n", count});
  return words;
}

// A Python with octet_ray (launch/ray): OCTET_RAY_PYTHON, the one that `scripts/setup --with ray`
// makes beside the program, or the plain one.
std::vector<std::string> ray_words(size_t ranks) {
  const fs::path program = fs::read_symlink("/proc/self/exe").parent_path();
  std::vector<std::string> pythons = {(program / "ray/bin/python").string(), "python3"};
  if (const char* python = std::getenv("OCTET_RAY_PYTHON")) pythons = {python};
  // Finding them is quick, importing them is not.
  const std::string has_both =
      " -c 'from importlib.util import find_spec as f; exit(not (f(\"ray\") and "
      "f(\"octet_ray\")))' >/dev/null 2>&1";
  for (const std::string& python : pythons)
    if (std::system((quoted(python) + has_both).c_str()) == 0)
      return {python, "-m", "octet_ray", "--ranks", std::to_string(ranks), "--"};
  throw Error("--distributed-executor-backend ray needs Ray and Octet's part for it, octet_ray")
      .remedy(
          "scripts/setup --with ray installs both; --distributed-executor-backend mp needs "
          "neither");
}

// Puts a file into the job's folder, if this process is a rank on the host that started the job.
bool leave_in_job_folder(const char* name, std::string_view text = "") {
  const char* folder = std::getenv(kPlace);
  if (folder == nullptr || !fs::exists(folder)) return false;
  replace_text(fs::path(folder) / name, text);
  return true;
}

bool is_in_job_folder(const char* name) {
  const char* folder = std::getenv(kPlace);
  return folder != nullptr && fs::exists(fs::path(folder) / name);
}

// In mpirun's process, before it becomes mpirun: the signals that its parent has held up end it.
void listen_to_signals(const sigset_t& signals) {
  for (int signal : kEnding) take_signal(signal, SIG_DFL);
  ::pthread_sigmask(SIG_UNBLOCK, &signals, nullptr);
}

}  // namespace

Job::Job(size_t ranks, const std::vector<std::string>& command, Launcher launcher, HangUp hang_up)
    : words_(launcher == Launcher::kRay ? ray_words(ranks) : mpirun_words(ranks)) {
  hang_up_goes_on = hang_up == HangUp::kGoesOn;
  words_.insert(words_.end(), command.begin(), command.end());
  for (int signal : kEnding) take_signal(signal, pass_on);
  std::string name = (fs::temp_directory_path() / "octet-job-XXXXXX").string();
  if (::mkdtemp(name.data()) == nullptr)
    throw Error(std::string("no folder for the job: ") + std::strerror(errno)).file(name);
  folder_ = name;
  ::setenv(kPlace, name.c_str(), 1);
  const std::string leader = (folder_ / kLeader).string(),
                    interrupted = (folder_ / kInterrupted).string();
  OCTET_CHECK(leader.size() < sizeof(leader_file) && interrupted.size() < sizeof(interrupted_file));
  std::strcpy(leader_file, leader.c_str());
  std::strcpy(interrupted_file, interrupted.c_str());
}

Job::~Job() {
  std::error_code ignored;
  fs::remove_all(folder_, ignored);
  leader_file[0] = interrupted_file[0] = '\0';
}

bool Job::has_served() const { return fs::exists(folder_ / kServed); }

bool Job::pause(std::chrono::seconds time) {
  const auto end = Clock::now() + time;
  while (told_to_end == 0 && Clock::now() < end)
    std::this_thread::sleep_for(std::chrono::milliseconds(50));
  return told_to_end == 0;
}

JobEnd Job::run() {
  std::vector<char*> argv;
  for (std::string& word : words_) argv.push_back(word.data());
  argv.push_back(nullptr);

  sigset_t signals, before;
  ::sigemptyset(&signals);
  for (int signal : kEnding) ::sigaddset(&signals, signal);
  ::pthread_sigmask(SIG_BLOCK, &signals, &before);
  fs::remove(folder_ / kExplained);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid < 0) throw Error(std::string("cannot start mpirun: ") + std::strerror(errno));
  if (pid == 0) {
    ::setpgid(0, 0);  // the terminal's signals come through us, once
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    listen_to_signals(signals);
    if (::getppid() != parent) ::_exit(1);
    ::execvp(argv[0], argv.data());
    ::_exit(127);
  }
  child = pid;
  if (told_to_end != 0) {  // by a signal before there was a child
    told_launcher = 1;
    ::kill(pid, SIGTERM);
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  int status = 0;
  auto told = Clock::now();
  while (true) {
    const pid_t ended = ::waitpid(pid, &status, WNOHANG);
    if (ended == pid || (ended < 0 && errno != EINTR)) break;
    std::this_thread::sleep_for(std::chrono::milliseconds(20));
    if (told_launcher == 0 || words_[0] != "mpirun") told = Clock::now();
    if (Clock::now() - told < kHeard) continue;
    ::kill(pid, SIGTERM);
    told = Clock::now();
  }
  child = 0;
  fs::remove(folder_ / kLeader);  // another process may get its number
  const bool killed = WIFSIGNALED(status);
  const int code = killed ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  if (code == 127)
    throw Error("more than one rank needs mpirun, which is not there")
        .remedy("install Open MPI (scripts/setup does)");
  return {code, fs::exists(folder_ / kExplained), told_to_end != 0, killed};
}

bool in_job() { return std::getenv(kPlace) != nullptr; }

void lead_job() {
  const pid_t self = ::getpid();
  leave_in_job_folder(kLeader, {reinterpret_cast<const char*>(&self), sizeof(self)});
}

ErrorClaim claim_error() {
  const char* folder = std::getenv(kPlace);
  if (folder == nullptr || !fs::exists(folder)) return ErrorClaim::kUnknown;
  // Ranks that find others gone after the user has asked for the end have nothing to say about it.
  if (MpiJob::started_as() > 0 && is_in_job_folder(kInterrupted)) return ErrorClaim::kOthers;
  return create_file((fs::path(folder) / kExplained).c_str()) ? ErrorClaim::kMine
                                                              : ErrorClaim::kOthers;
}

void job_serves() { leave_in_job_folder(kServed); }

bool job_has_served() { return is_in_job_folder(kServed); }

}  // namespace octet
