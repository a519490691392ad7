#include "src/base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

namespace octet {

Error system_error(const fs::path& path, const char* action) {
  return Error(fmt::format("cannot {}: {}", action, std::strerror(errno))).file(path.string());
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

}  // namespace

MappedFile::MappedFile(const fs::path& path) : path_(path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) throw system_error(path, "open");
  struct stat st;
  if (::fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
    ::close(fd);
    throw Error("is not a regular file").file(path.string());
  }
  size_ = static_cast<size_t>(st.st_size);
  if (size_ > 0) {
    void* p = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
    if (p == MAP_FAILED) {
      const Error e = system_error(path, "map");
      ::close(fd);
      throw e;
    }
    data_ = static_cast<const std::byte*>(p);
  }
  ::close(fd);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<std::byte*>(data_), size_);
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

std::string read_text(const fs::path& path, uint64_t max_bytes) {
  const MappedFile file(path);
  if (file.bytes().size() > max_bytes)
    throw Error(fmt::format("is larger than {} bytes", max_bytes)).file(path.string());
  return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
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
