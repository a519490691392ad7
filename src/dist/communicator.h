// What the ranks of one model say to each other. A rank is a process that holds a part of every
// weight (shard.h); all ranks take the same steps in the same order.
//
// Every collective is called by all ranks, in the same order, by one thread at a time. None throws:
// it may run inside a ThreadTeam. When a rank does not answer, the collectives from then on do
// nothing, and throw_failure() says why.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "src/base/error.h"

namespace octet {

// A rank that has ended or does not answer.
class RankError : public Error {
 public:
  using Error::Error;
};

class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual size_t rank() const = 0;
  virtual size_t size() const = 0;
  // Ranks on this rank's host, this one among them.
  virtual size_t on_host() const = 0;

  // Every rank gets the sum over the ranks; int32 exactly (modulo 2^32), floats added in an order
  // that the ranks and their hosts decide, so that all ranks hold the same bits whatever the number
  // of values.
  virtual void sum(std::span<int32_t> values) = 0;
  virtual void sum(std::span<float> values) = 0;
  virtual void maximum(std::span<float> values) = 0;
  // Rank 0 gets the values of all ranks one after the other in `all`; `counts` [size()] says how
  // many each has. The other ranks' `all` is not touched.
  virtual void gather(std::span<const float> mine, std::span<const size_t> counts,
                      std::span<float> all) = 0;
  // Part r of `all` is its bytes [cuts[r], cuts[r + 1]), cuts [size() + 1]: every rank brings its
  // own share and gets the others'.
  virtual void all_gather(std::span<std::byte> all, std::span<const size_t> cuts) = 0;
  // Until all ranks are here, however long that takes, as loading may; only one that ends is lost.
  virtual void meet() = 0;
  // Every rank gets rank 0's message, for which ranks wait as long as for any other collective.
  virtual void broadcast(std::vector<int32_t>& message) = 0;

  // This rank's share of n items, cut at multiples of `grain`; empty where there are too few.
  std::pair<size_t, size_t> share(size_t n, size_t grain = 1) const {
    return {cut(n, grain, rank()), cut(n, grain, rank() + 1)};
  }
  // Of n rows of `width` values every rank has made its share: every rank gets all of them.
  template <typename T>
  void collect(T* rows, size_t n, size_t width, size_t grain = 1) {
    static_assert(std::is_trivially_copyable_v<T>);
    if (size() == 1) return;
    std::vector<size_t> cuts;
    for (size_t r = 0; r <= size(); ++r) cuts.push_back(cut(n, grain, r) * width * sizeof(T));
    all_gather(std::as_writable_bytes(std::span(rows, n * width)), cuts);
  }

  // Every rank gets rank 0's bytes; all must have room for the same number.
  void copy_from_first(std::span<std::byte> bytes) {
    std::vector<size_t> cuts(size() + 1, bytes.size());
    cuts[0] = 0;
    if (size() > 1) all_gather(bytes, cuts);
  }

  // Throws RankError when a collective has failed.
  void throw_failure() const {
    if (!failure_.empty()) throw RankError(failure_);
  }
  bool failed() const { return !failure_.empty(); }
  const std::string& failure() const { return failure_; }

 protected:
  // The first failure counts.
  void fail(std::string why) {
    if (failure_.empty()) failure_ = std::move(why);
  }

 private:
  // Where the share of `rank` begins.
  size_t cut(size_t n, size_t grain, size_t rank) const {
    const size_t grains = (n + grain - 1) / grain;
    return std::min(n, grains * rank / size() * grain);
  }

  std::string failure_;
};

// The only rank: every collective is free.
std::unique_ptr<Communicator> solo_communicator();

}  // namespace octet
