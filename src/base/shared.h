// A list that is made once and then only read: copies share it.
#pragma once

#include <cstddef>
#include <initializer_list>
#include <memory>
#include <utility>
#include <vector>

namespace octet {

template <typename T>
class Shared {
 public:
  Shared() = default;  // empty
  Shared(std::vector<T> list) : list_(std::make_shared<const std::vector<T>>(std::move(list))) {}
  Shared(std::initializer_list<T> list) : Shared(std::vector<T>(list)) {}

  const std::vector<T>& operator*() const {
    static const std::vector<T> none;
    return list_ == nullptr ? none : *list_;
  }
  operator const std::vector<T>&() const { return **this; }
  auto begin() const { return (**this).begin(); }
  auto end() const { return (**this).end(); }
  size_t size() const { return (**this).size(); }
  bool empty() const { return (**this).empty(); }
  const T& operator[](size_t i) const { return (**this)[i]; }
  bool operator==(const std::vector<T>& other) const { return **this == other; }

 private:
  std::shared_ptr<const std::vector<T>> list_;
};

}  // namespace octet
