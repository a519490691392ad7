// Memory for weights, caches and activations: page-aligned, on huge pages where the system has
// them. Blocks of 64 KiB to 1 MiB share huge pages; a page goes when all of its blocks have. The
// end of a larger block lies on small pages where it is less than half a huge one.
#pragma once

#include <cstddef>
#include <span>
#include <type_traits>
#include <utility>

namespace octet {

namespace internal {
void* map_pages(size_t bytes);  // zeroed; throws Error when memory is out
void unmap_pages(void* p, size_t bytes) noexcept;
}  // namespace internal

// `count` zeroed elements. Pages get their place when a thread first writes them, so the thread
// that will read a part should be the one that fills it. Move-only.
template <typename T>
class Buffer {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Buffer() = default;
  explicit Buffer(size_t count)
      : data_(count == 0 ? nullptr : static_cast<T*>(internal::map_pages(count * sizeof(T)))),
        size_(count) {}
  ~Buffer() {
    if (data_ != nullptr) internal::unmap_pages(data_, size_ * sizeof(T));
  }
  Buffer(Buffer&& o) noexcept
      : data_(std::exchange(o.data_, nullptr)), size_(std::exchange(o.size_, 0)) {}
  Buffer& operator=(Buffer&& o) noexcept {
    std::swap(data_, o.data_);
    std::swap(size_, o.size_);
    return *this;
  }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;

  T* data() { return data_; }
  const T* data() const { return data_; }
  size_t size() const { return size_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  std::span<T> span() { return {data_, size_}; }
  // Grows to at least `count`; the contents are lost when it does.
  void ensure(size_t count) {
    if (count > size_) *this = Buffer(count);
  }

 private:
  T* data_ = nullptr;
  size_t size_ = 0;
};

}  // namespace octet
