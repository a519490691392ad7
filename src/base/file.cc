#include "src/base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <utility>

#include "src/base/say.h"

namespace octet {

Error system_error(const fs::path& path, const char* action) {
  return Error(fmt::format("cannot {}: {}", action, std::strerror(errno))).file(path.string());
}

bool has_entry(const fs::path& path) {
  std::error_code ignored;  // what cannot be looked at may be there: opening it says why not
  return fs::symlink_status(path, ignored).type() != fs::file_type::not_found;
}

void sync_folder(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) throw system_error(path, "open folder");
  const int rc = ::fsync(fd);
  ::close(fd);
  if (rc != 0) throw system_error(path, "flush folder");
}

namespace {

constexpr size_t kPage = 4096;

void write_all(int fd, const fs::path& path, std::span<const std::byte> bytes, int64_t offset) {
  while (!bytes.empty()) {
    const ssize_t n = offset < 0 ? ::write(fd, bytes.data(), bytes.size())
                                 : ::pwrite(fd, bytes.data(), bytes.size(), offset);
    if (n < 0) {
      if (errno == EINTR) continue;
      throw system_error(path, "write");
    }
    bytes = bytes.subspan(static_cast<size_t>(n));
    if (offset >= 0) offset += n;
  }
}

// By errno. A model cache of the hub has its files in blobs/, and links to them in snapshots/.
Error cannot_open(const fs::path& path) {
  Error plain = system_error(path, "open");
  std::error_code ec;
  if (!fs::is_symlink(path, ec) || fs::exists(path, ec)) return plain;
  return Error("is a link to a file that is not there")
      .file(path.string())
      .found(fs::read_symlink(path, ec).string())
      .remedy(
          "download it again; a model of the hub's cache is copied with `cp -rL`, which follows "
          "links");
}

// A regular file, open for reading.
struct RegularFile {
  explicit RegularFile(const fs::path& path) : fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    if (fd < 0) throw cannot_open(path);
    struct stat st = {};
    if (::fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) {
      size = static_cast<size_t>(st.st_size);
      return;
    }
    ::close(fd);
    throw Error("is not a regular file").file(path.string());
  }
  ~RegularFile() { ::close(fd); }
  RegularFile(const RegularFile&) = delete;
  RegularFile& operator=(const RegularFile&) = delete;

  int fd;
  size_t size = 0;
};

void refuse_lfs_pointer(std::string_view text, const fs::path& path) {
  constexpr std::string_view kStart = "version https://git-lfs.github.com/spec/";
  if (text.starts_with(kStart))
    throw Error("is a git-lfs pointer, not the file itself")
        .file(path.string())
        .remedy("in its folder: git lfs install, then git lfs pull");
}

// What is mapped, for the handler of SIGBUS: a page of a file that was cut short under its mapping.
// Entries are taken and given back without locks, since the handler reads them at any time.
struct Mapping {
  std::atomic<bool> taken{false};
  std::atomic<const std::byte*> begin{nullptr};  // null: not to be read
  size_t size = 0;
  char* path = nullptr;
};
constexpr size_t kMappings = 1024;  // files beyond these end the program without a word
Mapping mappings[kMappings];

void end_by_bus_error(int, siginfo_t* info, void*) {
  const std::byte* at = static_cast<const std::byte*>(info->si_addr);
  for (const Mapping& m : mappings) {
    const std::byte* begin = m.begin.load(std::memory_order_acquire);
    if (begin == nullptr || at < begin || at >= begin + m.size) continue;
    say("octet: error: ");
    say(m.path);
    say(": became shorter while it was read; write a new file beside it and rename that\n");
    ::_exit(1);
  }
  ::signal(SIGBUS, SIG_DFL);  // no file of ours: the fault repeats, and ends the program as ever
}

void watch_mapping(const fs::path& path, const std::byte* begin, size_t size) {
  static std::once_flag once;
  std::call_once(once, [] {
    struct sigaction action = {};
    action.sa_sigaction = end_by_bus_error;
    action.sa_flags = SA_SIGINFO;
    ::sigaction(SIGBUS, &action, nullptr);
  });
  for (Mapping& m : mappings) {
    if (m.taken.exchange(true, std::memory_order_acquire)) continue;
    m.size = size;
    m.path = ::strdup(path.c_str());
    m.begin.store(begin, std::memory_order_release);
    return;
  }
}

void forget_mapping(const std::byte* begin) {
  for (Mapping& m : mappings) {
    if (m.begin.load(std::memory_order_relaxed) != begin) continue;
    m.begin.store(nullptr, std::memory_order_relaxed);
    std::free(std::exchange(m.path, nullptr));
    m.taken.store(false, std::memory_order_release);
    return;
  }
}

}  // namespace

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  const RegularFile file(path);
  size_ = file.size;
  if (size_ == 0) return;
  void* p = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, file.fd, 0);
  if (p == MAP_FAILED) throw system_error(path, "map");
  data_ = static_cast<const std::byte*>(p);
  watch_mapping(path_, data_, size_);
}

MappedFile::~MappedFile() {
  if (data_ == nullptr) return;
  forget_mapping(data_);
  ::munmap(const_cast<std::byte*>(data_), size_);
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : path_(std::move(other.path_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
  std::swap(path_, other.path_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void MappedFile::release(size_t offset, size_t size) const noexcept {
  const size_t begin = (offset + kPage - 1) / kPage * kPage;  // whole pages inside the range only
  const size_t end = std::min(offset + size, size_) / kPage * kPage;
  if (begin < end) ::madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

void MappedFile::will_need(size_t offset, size_t size) const noexcept {
  const size_t begin = offset / kPage * kPage, end = std::min(offset + size, size_);
  if (begin < end) ::madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_WILLNEED);
}

OutputFile::OutputFile(const fs::path& path) : path_(path) {
  fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
  if (fd_ < 0) throw system_error(path, "create");
}

OutputFile::OutputFile(const fs::path& path, uint64_t keep) : path_(path), size_(keep) {
  fd_ = ::open(path.c_str(), O_WRONLY | O_CLOEXEC);
  if (fd_ < 0) throw system_error(path, "open");
  struct stat st = {};
  const off_t end = static_cast<off_t>(keep);
  if (::fstat(fd_, &st) == 0 && st.st_size >= end && ::ftruncate(fd_, end) == 0 &&
      ::lseek(fd_, end, SEEK_SET) == end)
    return;
  const Error error = st.st_size < end ? Error("is shorter than it was")
                                             .file(path.string())
                                             .expected(fmt::format("{} bytes", keep))
                                             .found(fmt::format("{}", st.st_size))
                                       : system_error(path, "go on writing");
  ::close(fd_);
  throw error;
}

OutputFile::~OutputFile() {
  if (fd_ >= 0) ::close(fd_);
}

OutputFile::OutputFile(OutputFile&& other) noexcept
    : path_(std::move(other.path_)), fd_(std::exchange(other.fd_, -1)), size_(other.size_) {}

void OutputFile::write(std::span<const std::byte> bytes) {
  write_all(fd_, path_, bytes, -1);
  size_ += bytes.size();
}

void OutputFile::sync() {
  if (::fsync(fd_) != 0) throw system_error(path_, "flush");
}

void OutputFile::close() {
  sync();
  if (::close(std::exchange(fd_, -1)) != 0) throw system_error(path_, "close");
}

void refuse_lfs_pointer(const MappedFile& file) {
  refuse_lfs_pointer({reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()},
                     file.path());
}

// Read, not mapped: a file that is cut short meanwhile gives a short text, not a signal.
std::string read_text(const fs::path& path, uint64_t max_bytes) {
  const RegularFile file(path);
  if (file.size > max_bytes)
    throw Error(fmt::format("is larger than {} bytes", max_bytes)).file(path.string());
  std::string text(file.size, '\0');
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::read(file.fd, text.data() + done, text.size() - done);
    if (n < 0 && errno != EINTR) throw system_error(path, "read");
    if (n == 0) break;
    if (n > 0) done += static_cast<size_t>(n);
  }
  text.resize(done);
  refuse_lfs_pointer(text, path);
  return text;
}

void write_text(const fs::path& path, std::string_view text) {
  OutputFile file(path);
  file.write(text);
  file.close();
}

void replace_text(const fs::path& path, std::string_view text) {
  fs::path next = path;
  next += ".new";
  write_text(next, text);
  if (::rename(next.c_str(), path.c_str()) != 0) throw system_error(path, "replace");
  sync_folder(path.parent_path());
}

void for_each_line(std::string_view text,
                   const std::function<void(size_t number, std::string_view line)>& visit) {
  size_t number = 0;
  while (!text.empty()) {
    const size_t end = std::min(text.find('\n'), text.size());
    const std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    ++number;
    if (line.find_first_not_of(" \t\r") != std::string_view::npos) visit(number, line);
  }
}

}  // namespace octet
