#include "src/quant/layer/activations.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <string>
#include <utility>

#include "src/base/error.h"
#include "src/base/progress.h"

namespace octet {
namespace {

constexpr size_t kPage = 4096;

// A mapping of a new file of `bytes`, whose space is there, and which has no name any more.
float* map_file(const fs::path& folder, uint64_t bytes) {
  std::string path = (folder / ".octet-activations-XXXXXX").string();
  const int fd = ::mkostemp(path.data(), O_CLOEXEC);
  if (fd < 0) throw system_error(path, "create");
  ::unlink(path.c_str());
  const int rc = ::posix_fallocate(fd, 0, static_cast<off_t>(bytes));
  void* p =
      rc == 0 ? ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) : MAP_FAILED;
  const int reason = rc == 0 ? errno : rc;
  ::close(fd);
  if (p == MAP_FAILED)
    throw Error(fmt::format("no room for {} of activations: {}", format_bytes(bytes),
                            std::strerror(reason)))
        .file(path)
        .remedy("free disk space there, give a larger --memory-limit, or less calibration text");
  return static_cast<float*>(p);
}

}  // namespace

Activations ActivationMemory::get(size_t count) {
  Activations a;
  if (count == 0) return a;
  const uint64_t bytes = count * sizeof(float);
  if (bytes <= left_) {
    a.memory_ = Buffer<float>(count);
    a.data_ = a.memory_.data();
    left_ -= bytes;
  } else {
    a.data_ = map_file(folder_, bytes);
    in_file_ += bytes;
  }
  a.size_ = count;
  a.owner_ = this;
  return a;
}

Activations::~Activations() {
  if (data_ == nullptr) return;
  const uint64_t bytes = size_ * sizeof(float);
  if (in_file()) {
    ::munmap(data_, bytes);
    owner_->in_file_ -= bytes;
  } else {
    owner_->left_ += bytes;
  }
}

Activations::Activations(Activations&& other) noexcept
    : owner_(std::exchange(other.owner_, nullptr)),
      memory_(std::move(other.memory_)),
      data_(std::exchange(other.data_, nullptr)),
      size_(std::exchange(other.size_, 0)) {}

Activations& Activations::operator=(Activations&& other) noexcept {
  std::swap(owner_, other.owner_);
  std::swap(memory_, other.memory_);
  std::swap(data_, other.data_);
  std::swap(size_, other.size_);
  return *this;
}

void Activations::release_rows(size_t first, size_t count) const noexcept {
  if (!in_file()) return;
  const size_t begin = (first * sizeof(float) + kPage - 1) / kPage * kPage;
  const size_t end = (first + count) * sizeof(float) / kPage * kPage;  // whole pages inside only
  if (begin < end) ::madvise(reinterpret_cast<char*>(data_) + begin, end - begin, MADV_DONTNEED);
}

}  // namespace octet
