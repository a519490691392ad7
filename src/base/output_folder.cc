#include "src/base/output_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "src/base/error.h"

namespace octet {
namespace {

constexpr const char* kLock = "lock";
constexpr const char* kOld = "old";  // the target that is being replaced, for a moment

fs::path normal(const fs::path& target) {
  const fs::path p = fs::weakly_canonical(fs::absolute(target));
  return p.has_filename() ? p : p.parent_path();  // trailing slash
}

fs::path partial_of(const fs::path& normal_target) {
  fs::path p = normal_target;
  return p += ".partial";
}

bool has_entries(const fs::path& folder) {
  std::error_code ec;
  const fs::directory_iterator entries(folder, ec);
  return !ec && entries != fs::directory_iterator();
}

}  // namespace

FileLock::FileLock(const fs::path& file) {
  for (;;) {
    fd_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (fd_ < 0) throw system_error(file, "create");
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      ::close(fd_);
      throw usage_error("another run is writing this output")
          .file(file.parent_path().string())
          .remedy("wait for it, or name another folder");
    }
    // Whoever held it may have removed the file between open and flock.
    struct stat held, named;
    if (::fstat(fd_, &held) == 0 && ::stat(file.c_str(), &named) == 0 &&
        held.st_ino == named.st_ino && held.st_dev == named.st_dev)
      return;
    ::close(fd_);
  }
}

FileLock::~FileLock() {
  if (fd_ >= 0) ::close(fd_);
}

FileLock::FileLock(FileLock&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}

FileLock& FileLock::operator=(FileLock&& other) noexcept {
  std::swap(fd_, other.fd_);
  return *this;
}

OutputFolder::OutputFolder(const fs::path& target, bool overwrite, bool resume)
    : target_(normal(target)), partial_(partial_of(target_)), overwrite_(overwrite) {
  check_target();
  std::error_code ec;
  if (has_entries(partial_) && !fs::exists(partial_ / kLock, ec))
    throw usage_error("is in the way, and not what an interrupted run leaves")
        .file(partial_.string())
        .remedy("move it elsewhere");
  make_parents();
  try {
    lock_ = FileLock(partial_ / kLock);
    settle_leftovers(resume);
    fs::create_directories(path(), ec);
    if (ec) throw Error("cannot create the folder: " + ec.message()).file(path().string());
  } catch (...) {
    if (lock_.held() && !fs::exists(journal(), ec)) remove();
    throw;
  }
}

void OutputFolder::check_target() const {
  std::error_code ec;
  if (!fs::exists(target_, ec)) return;
  if (!fs::is_directory(target_, ec))
    throw usage_error("the output exists and is not a folder").file(target_.string());
  const fs::directory_iterator entries(target_, ec);
  if (ec) throw Error("cannot read the output folder: " + ec.message()).file(target_.string());
  if (!overwrite_ && entries != fs::directory_iterator())
    throw usage_error("the output folder exists and is not empty")
        .file(target_.string())
        .remedy("name another folder, or give --overwrite to replace it");
  // --overwrite means a model, not whatever a slip of the keyboard names.
  if (entries != fs::directory_iterator() && !fs::exists(target_ / "config.json", ec))
    throw usage_error(
        "the output folder holds something other than a model, which --overwrite spares")
        .file(target_.string())
        .expected("config.json in it")
        .found(entries->path().filename().string())
        .remedy("name another folder, or empty it");
}

void OutputFolder::make_parents() {
  std::error_code ec;
  for (fs::path p = target_.parent_path(); !fs::exists(p, ec); p = p.parent_path())
    created_.push_back(p);
  fs::create_directories(partial_, ec);
  if (!ec) return;
  const Error error = Error("cannot create the folder: " + ec.message()).file(partial_.string());
  for (const fs::path& p : created_) fs::remove(p, ec);
  throw error;
}

void OutputFolder::settle_leftovers(bool resume) {
  std::error_code ec;
  // Interrupted while it replaced the target: that goes back first.
  if (fs::exists(partial_ / kOld, ec) && !fs::exists(target_, ec)) {
    fs::rename(partial_ / kOld, target_, ec);
    if (ec) throw Error("cannot put it back: " + ec.message()).file((partial_ / kOld).string());
    check_target();
  }
  const bool unfinished = fs::exists(journal(), ec) && fs::exists(path(), ec);
  resumed_ = unfinished && resume;
  if (resumed_) return;
  if (unfinished && !overwrite_)
    throw usage_error("an interrupted run has left its finished layers here")
        .file(partial_.string())
        .remedy("--resume goes on with them, --overwrite begins anew");
  clear();
}

void OutputFolder::clear() const noexcept {
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(partial_, ec))
    if (entry.path().filename() != kLock) fs::remove_all(entry.path(), ec);
}

OutputFolder::~OutputFolder() {
  std::error_code ec;
  if (!committed_ && !fs::exists(journal(), ec)) remove();
}

void OutputFolder::remove() const noexcept {
  clear();  // the lock last: by it the folder is known
  std::error_code ec;
  fs::remove_all(partial_, ec);
  for (const fs::path& p : created_) fs::remove(p, ec);  // unless something is in it by now
}

void OutputFolder::commit() {
  sync_folder(path());
  std::error_code ec;
  const bool replace = fs::exists(target_, ec) && overwrite_ && !fs::is_empty(target_, ec);
  fs::remove_all(partial_ / kOld, ec);
  if (replace) fs::rename(target_, partial_ / kOld, ec);
  if (ec) throw Error("cannot replace the folder: " + ec.message()).file(target_.string());
  fs::rename(path(), target_, ec);  // over an empty folder rename(2) replaces it
  std::error_code ignored;
  if (replace && ec) fs::rename(partial_ / kOld, target_, ignored);
  if (ec) throw Error("cannot rename into place: " + ec.message()).file(target_.string());
  committed_ = true;
  sync_folder(target_.parent_path());
  created_.clear();
  remove();
}

bool OutputFolder::is_partial(const fs::path& folder) {
  std::error_code ec;
  return fs::exists(folder / kLock, ec) && fs::exists(folder / "files", ec);
}

fs::path OutputFolder::resumable(const fs::path& target) {
  const fs::path partial = partial_of(normal(target));
  std::error_code ec;
  return fs::exists(partial / "journal", ec) ? partial : fs::path();
}

void refuse_overlap(const fs::path& input, const fs::path& output) {
  const fs::path in = fs::weakly_canonical(fs::absolute(input));
  const fs::path out = fs::weakly_canonical(fs::absolute(output));
  const auto holds = [](const fs::path& outer, const fs::path& inner) {
    return std::mismatch(outer.begin(), outer.end(), inner.begin(), inner.end()).first ==
           outer.end();
  };
  if (holds(in, out) || holds(out, in))
    throw usage_error("the output would overwrite the input, or lie inside it")
        .file(output.string())
        .remedy("name a folder beside " + input.string());
}

}  // namespace octet
