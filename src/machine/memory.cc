#include "src/machine/memory.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <map>
#include <mutex>

#include "src/base/error.h"

namespace octet::internal {
namespace {

constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kPage = 4096;
// Between these sizes blocks share huge pages: a small model's matrix, or a rank's share of one.
// From the second on a block has huge pages of its own, and small ones for what is left when that
// is less than half a huge page.
constexpr size_t kSharedFrom = size_t{64} << 10, kHugeFrom = kHugePage / 2;

size_t round_up(size_t bytes, size_t unit) { return (bytes + unit - 1) / unit * unit; }

size_t rounded(size_t bytes) {
  return round_up(bytes, bytes % kHugePage >= kHugeFrom ? kHugePage : kPage);
}

void* map_anonymous(size_t bytes) {
  void* p = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) throw Error(fmt::format("out of memory: cannot get {} MiB", bytes >> 20));
  return p;
}

// `size`, a multiple of kPage, from the boundary of a huge page on.
char* map_huge(size_t size) {
  // Over-allocate by one huge page and trim.
  char* base = static_cast<char*>(map_anonymous(size + kHugePage));
  const size_t head = (kHugePage - reinterpret_cast<size_t>(base) % kHugePage) % kHugePage;
  if (head > 0) ::munmap(base, head);
  if (kHugePage > head) ::munmap(base + head + size, kHugePage - head);
  ::madvise(base + head, size, MADV_HUGEPAGE);  // best effort
  return base + head;
}

// Huge pages that several blocks share, one filled after the other. A block's place is not used
// again, so that blocks are zeroed; a page goes when the last of its blocks has.
class SharedPages {
 public:
  void* take(size_t bytes) {
    const std::lock_guard lock(mutex_);
    if (page_ == nullptr || used_ + bytes > kHugePage) {
      if (page_ != nullptr) release(page_);  // what fills a page holds it, too
      page_ = nullptr;
      page_ = map_huge(kHugePage);
      used_ = 0;
      blocks_[page_] = 1;
    }
    ++blocks_[page_];
    used_ += bytes;
    return page_ + used_ - bytes;
  }
  void give_back(void* p) noexcept {
    const std::lock_guard lock(mutex_);
    const size_t within = reinterpret_cast<size_t>(p) % kHugePage;
    release(static_cast<char*>(p) - within);
  }

 private:
  void release(char* page) noexcept {
    const auto it = blocks_.find(page);
    if (--it->second > 0) return;
    blocks_.erase(it);
    ::munmap(page, kHugePage);
  }

  std::mutex mutex_;
  std::map<char*, size_t> blocks_;  // that hold a page
  char* page_ = nullptr;            // that is being filled
  size_t used_ = 0;
};

SharedPages& shared_pages() {
  static SharedPages& pages = *new SharedPages;  // outlives every Buffer
  return pages;
}

bool shares(size_t bytes) { return bytes >= kSharedFrom && bytes < kHugeFrom; }

}  // namespace

void* map_pages(size_t bytes) {
  if (shares(bytes)) return shared_pages().take(rounded(bytes));
  return bytes >= kHugeFrom ? map_huge(rounded(bytes)) : map_anonymous(rounded(bytes));
}

void unmap_pages(void* p, size_t bytes) noexcept {
  if (shares(bytes)) return shared_pages().give_back(p);
  ::munmap(p, rounded(bytes));
}

}  // namespace octet::internal
