// How a quantization goes on after an interruption: what is finished, layer by layer, written into
// the partial folder (src/base/output_folder.h).
//
//   journal     the checksum of the rest, then CBOR: the fingerprint (what decides the output's
//               bytes), the pass and its next layer, what the passes have gathered, seconds
//   states-P-L  float32: the residual streams before layer L of pass P
//
// Each is replaced as a whole after every layer, in an order that leaves a matching pair whenever
// the run is killed. Everything else is made again from these and from the model.
#pragma once

#include <chrono>
#include <functional>
#include <future>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "src/base/json.h"
#include "src/base/output_folder.h"
#include "src/dist/communicator.h"

namespace octet {

enum class Pass { kMeasure, kQuantize };

// What decides the bytes of an output: names for people -> values.
using Fingerprint = std::map<std::string, std::string>;
// The residual streams of a pass, in an order of its own: [tokens * hidden] each.
using StreamStates = std::vector<std::span<float>>;

class Journal {
 public:
  // Takes up the journal of a resumed `output`, which must outlive this one. Throws kUsage Error
  // when its fingerprint is another one, naming what differs, Error when it is damaged.
  Journal(const OutputFolder& output, Fingerprint fingerprint);
  // Of all ranks but the first, which keeps it: they learn from that in share().
  explicit Journal(Fingerprint fingerprint) : fingerprint_(std::move(fingerprint)) {}
  // Waits for a layer that is being written, and removes what would be resumed.
  void drop() noexcept;
  ~Journal();  // waits for a layer that is being written
  Journal(const Journal&) = delete;
  Journal& operator=(const Journal&) = delete;

  // Called by all ranks of a job: they go on where the first one's journal stands, and resume()
  // gives them its states. Throws Error on a rank whose fingerprint is not the first one's. `ranks`
  // must outlive this.
  void share(Communicator& ranks);

  // The first layer that `pass` has to do: zero in a new run, INT64_MAX when the pass is over.
  int64_t next_layer(Pass pass) const;
  // Layers that are done, of both passes together: `measured` of the first (zero if there is none),
  // `layers` of the second.
  int64_t layers_done(int64_t measured, int64_t layers) const;
  // Whether an earlier run was interrupted in this pass, after a layer; then its streams' states go
  // into `states`, whose sizes must be the same. Throws Error when they are not there.
  bool resume(Pass pass, const StreamStates& states) const;

  // What the passes have gathered so far. get() throws Error when it is not there.
  template <typename T>
  void put(const std::string& key, const T& value) {
    gathered_[key] = value;
  }
  template <typename T>
  T get(const std::string& key) const {
    try {
      return gathered_.at(key).get<T>();
    } catch (const json::exception& e) {
      throw damaged(e.what());
    }
  }

  // `pass` is done with `layer`, and its streams are at `states`. In the background, one layer at a
  // time: calls `write`, which brings the layer to disk, then writes the journal. Throws what went
  // wrong with the layer before.
  void finish_layer(Pass pass, int64_t layer, const StreamStates& states,
                    std::function<void()> write = {});
  // Waits for the last layer. Throws what went wrong with it.
  void wait();

  // The time that this run, and the finished layers of those before it, took.
  double seconds() const;

 private:
  void read();
  void compare(const Fingerprint& before) const;
  void read_states(const StreamStates& states) const;
  std::string text(const std::string& states, uint64_t bytes) const;
  Error damaged(const std::string& reason) const;

  const OutputFolder* output_ = nullptr;
  Communicator* ranks_ = nullptr;
  Fingerprint fingerprint_;
  bool resumed_ = false;
  Pass pass_ = Pass::kMeasure;
  int64_t next_ = 0;
  std::string states_;         // file name
  uint64_t states_bytes_ = 0;  // of that file
  uint64_t states_sum_ = 0;    // checksum of what it holds
  json gathered_ = json::object();
  double seconds_before_ = 0;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
  std::future<void> pending_;
};

}  // namespace octet
