#include "src/machine/memory.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include "src/base/error.h"

namespace octet::internal {
namespace {
constexpr size_t kHugePage = size_t{2} << 20;
constexpr size_t kPage = 4096;
// From here on a huge page, though not full, is worth it: a rank's part of a small matrix.
constexpr size_t kHugeFrom = kHugePage / 2;

size_t rounded(size_t bytes) {
  const size_t unit = bytes >= kHugeFrom ? kHugePage : kPage;
  return (bytes + unit - 1) / unit * unit;
}
}  // namespace

void* map_pages(size_t bytes) {
  const size_t size = rounded(bytes);
  const bool huge = bytes >= kHugeFrom;
  // Over-allocate by one huge page and trim, so that the block starts on a huge-page boundary.
  const size_t slack = huge ? kHugePage : 0;
  void* p =
      ::mmap(nullptr, size + slack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (p == MAP_FAILED) throw Error(fmt::format("out of memory: cannot get {} MiB", bytes >> 20));
  if (!huge) return p;
  char* base = static_cast<char*>(p);
  const size_t head = (kHugePage - reinterpret_cast<size_t>(base) % kHugePage) % kHugePage;
  if (head > 0) ::munmap(base, head);
  if (slack > head) ::munmap(base + head + size, slack - head);
  ::madvise(base + head, size, MADV_HUGEPAGE);  // best effort
  return base + head;
}

void unmap_pages(void* p, size_t bytes) noexcept { ::munmap(p, rounded(bytes)); }

}  // namespace octet::internal
