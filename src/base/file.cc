#include "src/base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "src/base/error.h"

namespace octet {
namespace {

Error system_error(const fs::path& path, const char* action) {
  return Error(fmt::format("cannot {}: {}", action, std::strerror(errno))).file(path.string());
}

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

void sync_folder(const fs::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) throw system_error(path, "open folder");
  const int rc = ::fsync(fd);
  ::close(fd);
  if (rc != 0) throw system_error(path, "flush folder");
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
  constexpr size_t kPage = 4096;
  const size_t begin = (offset + kPage - 1) / kPage * kPage;  // whole pages inside the range only
  const size_t end = std::min(offset + size, size_) / kPage * kPage;
  if (begin < end) ::madvise(const_cast<std::byte*>(data_) + begin, end - begin, MADV_DONTNEED);
}

OutputFile::OutputFile(const fs::path& path) : path_(path) {
  fd_ = ::open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
  if (fd_ < 0) throw system_error(path, "create");
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

void OutputFile::close() {
  const int fd = std::exchange(fd_, -1);
  const int sync_rc = ::fsync(fd);
  const int sync_errno = errno;
  if (::close(fd) != 0) throw system_error(path_, "close");
  errno = sync_errno;
  if (sync_rc != 0) throw system_error(path_, "flush");
}

OutputFolder::OutputFolder(const fs::path& target, bool overwrite)
    : target_(fs::weakly_canonical(fs::absolute(target))), overwrite_(overwrite) {
  if (!target_.has_filename()) target_ = target_.parent_path();  // trailing slash
  std::error_code ec;
  if (fs::exists(target_, ec)) {
    if (!fs::is_directory(target_, ec))
      throw usage_error("the output exists and is not a folder").file(target_.string());
    const fs::directory_iterator entries(target_, ec);
    if (ec) throw Error("cannot read the output folder: " + ec.message()).file(target_.string());
    if (!overwrite && entries != fs::directory_iterator())
      throw usage_error("the output folder exists and is not empty")
          .file(target_.string())
          .remedy("name another folder, or give --overwrite to replace it");
  }
  for (fs::path p = target_.parent_path(); !fs::exists(p, ec); p = p.parent_path())
    created_.push_back(p);
  partial_ = target_;
  partial_ += fmt::format(".partial-{}", ::getpid());
  fs::create_directories(partial_, ec);
  if (ec) {
    const Error error = Error("cannot create the folder: " + ec.message()).file(partial_.string());
    remove();
    throw error;
  }
}

OutputFolder::~OutputFolder() {
  if (!committed_) remove();
}

void OutputFolder::remove() const noexcept {
  std::error_code ec;
  fs::remove_all(partial_, ec);
  for (const fs::path& p : created_) fs::remove(p, ec);  // unless something is in it by now
}

void OutputFolder::commit() {
  sync_folder(partial_);
  std::error_code ec;
  fs::path old = partial_;
  old += ".old";
  const bool replace = fs::exists(target_, ec) && overwrite_ && !fs::is_empty(target_, ec);
  if (replace) fs::rename(target_, old, ec);
  if (ec) throw Error("cannot replace the folder: " + ec.message()).file(target_.string());
  fs::rename(partial_, target_, ec);  // over an empty folder rename(2) replaces it
  std::error_code ignored;
  if (replace && ec) fs::rename(old, target_, ignored);
  if (replace && !ec) fs::remove_all(old, ignored);
  if (ec) throw Error("cannot rename into place: " + ec.message()).file(target_.string());
  committed_ = true;
  sync_folder(target_.parent_path());
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
