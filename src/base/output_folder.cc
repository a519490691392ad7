#include "src/base/output_folder.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "src/base/error.h"

namespace octet {
namespace {

constexpr const char *kLock = "lock", *kFiles = "files", *kJournal = "journal";
constexpr const char* kOld = "old";  // the target that is being replaced, for a moment

fs::path normal(const fs::path& target) {
  std::error_code ec;
  const fs::path whole = fs::absolute(target, ec);
  const fs::path p = ec ? whole : fs::weakly_canonical(whole, ec);
  if (ec) throw usage_error("is no name for an output: " + ec.message()).file(target.string());
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

// What is left beside `target` must be of an interrupted run. Whoever can write the parent may put
// a link there, or in the place of something in it.
void refuse_planted(const fs::path& partial) {
  std::error_code ec;
  const auto refuse = [](const fs::path& what) {
    throw usage_error("is in the way, and not what an interrupted run leaves")
        .file(what.string())
        .remedy("move it elsewhere");
  };
  if (fs::is_symlink(partial, ec) || (has_entries(partial) && !fs::exists(partial / kLock, ec)))
    refuse(partial);
  for (const char* name : {kLock, kOld, kFiles, kJournal})
    if (fs::is_symlink(partial / name, ec)) refuse(partial / name);
}

// Some file systems (/proc) grant what they then do not do: only an attempt shows. By the name that
// is made later, so that whoever ends the program here leaves nothing that is in the way. A full
// disk is another matter, and no fault of the name.
void expect_folder_can_be_made(const fs::path& folder) {
  if (::mkdir(folder.c_str(), 0777) == 0) {
    ::rmdir(folder.c_str());
    return;
  }
  if (errno == EEXIST || errno == ENOSPC || errno == EDQUOT) return;
  throw usage_error(fmt::format("no folder can be made here: {}", std::strerror(errno)))
      .file(folder.parent_path().string())
      .remedy("name another folder for the output");
}

// Whether the nearest folder above `target` that there is can get an entry of that name.
void expect_creatable(const fs::path& target) {
  std::error_code ec;
  fs::path above = target.parent_path();
  while (!fs::exists(above, ec) && above.has_relative_path()) above = above.parent_path();
  if (!fs::is_directory(above, ec))
    throw usage_error("the output cannot lie here: this is not a folder").file(above.string());
  const long longest = ::pathconf(above.c_str(), _PC_NAME_MAX);
  const fs::path below = partial_of(target).lexically_relative(above);
  for (const fs::path& name : below)
    if (longest > 0 && name.string().size() > static_cast<size_t>(longest))
      throw usage_error("the output's name is too long for the file system")
          .file(target.string())
          .expected(fmt::format("{} bytes with \".partial\" behind it", longest))
          .found(fmt::format("{}", name.string().size()));
  if (::access(above.c_str(), R_OK | W_OK | X_OK) != 0)
    throw usage_error(fmt::format("cannot be read and written: {}", std::strerror(errno)))
        .file(above.string())
        .remedy("name another folder for the output");
  expect_folder_can_be_made(above / *below.begin());
}

void check_target(const fs::path& target, bool overwrite) {
  std::error_code ec;
  if (!fs::exists(target, ec)) return;
  if (!fs::is_directory(target, ec))
    throw usage_error("the output exists and is not a folder").file(target.string());
  const fs::directory_iterator entries(target, ec);
  if (ec) throw usage_error("cannot read the output folder: " + ec.message()).file(target.string());
  if (!overwrite && entries != fs::directory_iterator())
    throw usage_error("the output folder exists and is not empty")
        .file(target.string())
        .remedy("name another folder, or give --overwrite to replace it");
  // --overwrite means a model, not whatever a slip of the keyboard names.
  if (entries != fs::directory_iterator() && !fs::exists(target / "config.json", ec))
    throw usage_error(
        "the output folder holds something other than a model, which --overwrite spares")
        .file(target.string())
        .expected("config.json in it")
        .found(entries->path().filename().string())
        .remedy("name another folder, or empty it");
}

// Removes `name` in the open folder `at`, with all below it and without following a link.
void remove_below(int at, const char* name) noexcept {
  if (::unlinkat(at, name, 0) == 0 || errno == ENOENT) return;
  const int folder = ::openat(at, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (folder < 0) return;
  if (DIR* entries = ::fdopendir(::dup(folder)); entries != nullptr) {
    while (const dirent* entry = ::readdir(entries)) {
      const std::string_view found = entry->d_name;
      if (found != "." && found != "..") remove_below(folder, entry->d_name);
    }
    ::closedir(entries);
  }
  ::close(folder);
  ::unlinkat(at, name, AT_REMOVEDIR);
}

}  // namespace

FileLock::FileLock(const fs::path& file) {
  for (;;) {
    fd_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0640);
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
  expect_usable(target, overwrite);
  std::error_code ec;
  make_parents();
  open_partial();
  try {
    lock_ = FileLock(partial_ / kLock);
    settle_leftovers(resume);
    fs::create_directories(path(), ec);
    if (ec) throw Error("cannot create the folder: " + ec.message()).file(path().string());
  } catch (...) {
    if (lock_.held() && !fs::exists(journal(), ec)) remove();
    ::close(folder_);
    throw;
  }
}

void OutputFolder::expect_usable(const fs::path& target, bool overwrite) {
  std::error_code ec;
  if (fs::is_symlink(target, ec) && !fs::exists(target, ec))
    throw usage_error("the output is a link to nothing")
        .file(target.string())
        .remedy("remove it, or make the folder it points to");
  const fs::path place = normal(target);
  expect_creatable(place);
  check_target(place, overwrite);
  refuse_planted(partial_of(place));
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

// Whoever can write the parent may put a link, or a folder of their own, in its place: then nothing
// is written or removed there.
void OutputFolder::open_partial() {
  folder_ = ::open(partial_.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (folder_ < 0) throw system_error(partial_, "open");
  // Some file systems show one owner for everything, whoever made it.
  struct stat here = {}, above = {};
  if (::fstat(folder_, &here) == 0 && ::stat(partial_.parent_path().c_str(), &above) == 0 &&
      (here.st_uid == ::geteuid() || here.st_uid == above.st_uid))
    return;
  ::close(folder_);
  throw usage_error("belongs to another user")
      .file(partial_.string())
      .remedy("name another folder");
}

void OutputFolder::settle_leftovers(bool resume) {
  std::error_code ec;
  // Interrupted while it replaced the target: that goes back first.
  if (fs::is_directory(fs::symlink_status(partial_ / kOld, ec)) && !fs::exists(target_, ec)) {
    fs::rename(partial_ / kOld, target_, ec);
    if (ec) throw Error("cannot put it back: " + ec.message()).file((partial_ / kOld).string());
    check_target(target_, overwrite_);
  }
  const bool unfinished = fs::exists(journal(), ec) && fs::exists(path(), ec);
  resumed_ = unfinished && resume;
  if (resumed_) return;
  if (unfinished && !overwrite_)
    throw usage_error("an interrupted run has left its finished layers here")
        .file(partial_.string())
        .remedy("octet quantize with --resume goes on with them, --overwrite begins anew");
  clear();
}

void OutputFolder::clear() const noexcept {
  DIR* entries = ::fdopendir(::openat(folder_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (entries == nullptr) return;
  while (const dirent* entry = ::readdir(entries)) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != ".." && name != kLock) remove_below(folder_, entry->d_name);
  }
  ::closedir(entries);
}

OutputFolder::~OutputFolder() {
  std::error_code ec;
  if (!committed_ && !fs::exists(journal(), ec)) remove();
  ::close(folder_);
}

void OutputFolder::remove() const noexcept {
  std::error_code none;
  // A model that was to be replaced and could not be put back is the only one there is.
  if (fs::exists(partial_ / kOld, none) && !fs::exists(target_, none)) return;
  clear();  // the lock last: by it the folder is known
  ::unlinkat(folder_, kLock, 0);
  std::error_code ec;
  fs::remove(partial_, ec);
  for (const fs::path& p : created_) fs::remove(p, ec);  // unless something is in it by now
}

void OutputFolder::commit() {
  sync_folder(path());
  std::error_code ec;
  const bool replace = fs::exists(target_, ec) && overwrite_ && !fs::is_empty(target_, ec);
  remove_below(folder_, kOld);
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
  return fs::exists(folder / kLock, ec) && fs::exists(folder / kFiles, ec);
}

fs::path OutputFolder::resumable(const fs::path& target) {
  const fs::path partial = partial_of(normal(target));
  std::error_code ec;
  return fs::exists(partial / kJournal, ec) ? partial : fs::path();
}

void refuse_overlap(const fs::path& input, const fs::path& output) {
  std::error_code ec;
  const fs::path out = normal(output);
  const fs::path in = fs::weakly_canonical(fs::absolute(input), ec);
  if (ec) return;  // cannot be opened either
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
