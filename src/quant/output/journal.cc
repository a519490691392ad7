#include "src/quant/output/journal.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <utility>

#include "src/base/error.h"
#include "src/base/hash.h"

namespace octet {
namespace {

constexpr int kVersion = 3;  // of the journal's format, and of what the states are of

std::string shortened(const std::string& value) {
  if (value.empty()) return "nothing";
  return value.size() > 60 ? value.substr(0, 57) + "..." : value;
}

uint64_t checksum(const StreamStates& states) {
  uint64_t sum = fnv1a_words({});
  for (const std::span<float>& s : states) sum = fnv1a_words(std::as_bytes(s), sum);
  return sum;
}

}  // namespace

Journal::Journal(const OutputFolder& output, Fingerprint fingerprint)
    : output_(&output), fingerprint_(std::move(fingerprint)) {
  if (output.resumed()) read();
}

Journal::~Journal() {
  if (pending_.valid()) pending_.wait();
}

void Journal::drop() noexcept {
  if (pending_.valid()) pending_.wait();
  std::error_code ec;
  if (output_ != nullptr) fs::remove(output_->journal(), ec);
}

Error Journal::damaged(const std::string& reason) const {
  return Error("is damaged: " + reason)
      .file(output_->journal().string())
      .remedy("--overwrite begins anew");
}

void Journal::read() {
  const std::string all = read_text(output_->journal(), UINT64_MAX);
  uint64_t sum = 0;
  if (all.size() < sizeof sum) throw damaged("no checksum");
  std::memcpy(&sum, all.data(), sizeof sum);
  if (sum != fnv1a(std::string_view(all).substr(sizeof sum))) throw damaged("wrong checksum");
  try {
    const json j = json::from_cbor(all.begin() + sizeof sum, all.end());
    if (j.at("version") != kVersion) throw damaged("of another version");
    compare(j.at("fingerprint").get<Fingerprint>());
    pass_ = j.at("pass").get<bool>() ? Pass::kQuantize : Pass::kMeasure;
    next_ = j.at("next_layer").get<int64_t>();
    states_ = j.at("states").get<std::string>();
    states_bytes_ = j.at("states_bytes").get<uint64_t>();
    states_sum_ = j.at("states_sum").get<uint64_t>();
    gathered_ = j.at("gathered");
    seconds_before_ = j.at("seconds").get<double>();
  } catch (const json::exception& e) {
    throw damaged(e.what());
  }
  resumed_ = true;
}

void Journal::compare(const Fingerprint& before) const {
  std::vector<std::string> names;
  for (const auto& [name, value] : before)
    if (const auto it = fingerprint_.find(name); it == fingerprint_.end() || it->second != value)
      names.push_back(name);
  for (const auto& [name, value] : fingerprint_)
    if (!before.contains(name)) names.push_back(name);
  if (names.empty()) return;
  const auto value_of = [&](const Fingerprint& f) {
    const auto it = f.find(names[0]);
    return shortened(it == f.end() ? "" : it->second);
  };
  throw usage_error("the interrupted run was another one, whose layers do not fit this one's")
      .file(output_->partial().string())
      .field(fmt::format("{}", fmt::join(names, ", ")))
      .expected(value_of(before))
      .found(value_of(fingerprint_))
      .remedy("--resume with what the interrupted run was given, or --overwrite to begin anew");
}

void Journal::share(Communicator& ranks) {
  if (ranks.size() == 1) return;
  ranks_ = &ranks;
  std::vector<uint8_t> all = json::to_cbor({{"fingerprint", fingerprint_},
                                            {"resumed", resumed_},
                                            {"pass", pass_},
                                            {"next", next_},
                                            {"gathered", gathered_}});
  std::vector<int32_t> size = {static_cast<int32_t>(all.size())};
  ranks.broadcast(size);
  ranks.throw_failure();
  all.resize(static_cast<size_t>(size[0]));
  ranks.copy_from_first(std::as_writable_bytes(std::span(all)));
  ranks.throw_failure();
  if (output_ != nullptr) return;
  const json j = json::from_cbor(all);
  resumed_ = j.at("resumed").get<bool>();
  pass_ = j.at("pass").get<Pass>();
  next_ = j.at("next").get<int64_t>();
  gathered_ = j.at("gathered");
  // Copies of a file on several hosts need not be of one time.
  const auto timeless = [](const std::string& value) {
    return value.substr(0, value.find(", time "));
  };
  for (const auto& [name, value] : j.at("fingerprint").get<Fingerprint>())
    if (const auto it = fingerprint_.find(name);
        it == fingerprint_.end() || timeless(it->second) != timeless(value))
      throw Error("rank 0 works on something else")
          .field(name)
          .expected(shortened(value))
          .found(shortened(it == fingerprint_.end() ? "" : it->second))
          .remedy("all hosts need the same program, model and text");
}

int64_t Journal::next_layer(Pass pass) const {
  if (!resumed_ || pass_ < pass) return 0;
  return pass_ == pass ? next_ : INT64_MAX;
}

int64_t Journal::layers_done(int64_t measured, int64_t layers) const {
  return std::min(next_layer(Pass::kMeasure), measured) +
         std::min(next_layer(Pass::kQuantize), layers);
}

bool Journal::resume(Pass pass, const StreamStates& states) const {
  if (!resumed_ || pass_ != pass) return false;
  if (output_ != nullptr) read_states(states);
  for (const std::span<float>& s : states)
    if (ranks_ != nullptr) ranks_->copy_from_first(std::as_writable_bytes(s));
  if (ranks_ != nullptr) ranks_->throw_failure();
  return true;
}

void Journal::read_states(const StreamStates& states) const {
  const fs::path path = output_->partial() / states_;
  const MappedFile file(path);
  uint64_t bytes = 0;
  for (const std::span<float>& s : states) bytes += s.size_bytes();
  if (file.bytes().size() != states_bytes_ || bytes != states_bytes_)
    throw Error("is not what the interrupted run wrote")
        .file(path.string())
        .expected(fmt::format("{} bytes", bytes))
        .found(fmt::format("{}", file.bytes().size()))
        .remedy("--overwrite begins anew");
  const std::byte* from = file.bytes().data();
  for (const std::span<float>& s : states) {
    if (!s.empty()) std::memcpy(s.data(), from, s.size_bytes());
    from += s.size_bytes();
  }
  if (checksum(states) != states_sum_)
    throw Error("is not what the interrupted run wrote: wrong checksum")
        .file(path.string())
        .remedy("--overwrite begins anew");
}

std::string Journal::text(const std::string& states, uint64_t bytes) const {
  const json j = {{"version", kVersion},
                  {"fingerprint", fingerprint_},
                  {"pass", pass_ == Pass::kQuantize},
                  {"next_layer", next_},
                  {"states", states},
                  {"states_bytes", bytes},
                  {"states_sum", states_sum_},
                  {"gathered", gathered_},
                  {"seconds", seconds()}};
  std::string all(sizeof(uint64_t), '\0');
  json::to_cbor(j, all);
  const uint64_t sum = fnv1a(std::string_view(all).substr(sizeof sum));
  std::memcpy(all.data(), &sum, sizeof sum);
  return all;
}

void Journal::finish_layer(Pass pass, int64_t layer, const StreamStates& states,
                           std::function<void()> write) {
  // What a lost rank should have brought is not to be kept.
  if (ranks_ != nullptr) ranks_->throw_failure();
  if (output_ == nullptr) return;
  wait();
  pass_ = pass;
  next_ = layer + 1;
  const std::string before =
      std::exchange(states_, fmt::format("states-{}-{}", pass == Pass::kQuantize ? 1 : 0, next_));
  // Here into the system's cache, since the next layer changes them; to disk in the background.
  const auto file = std::make_shared<OutputFile>(output_->partial() / states_);
  for (const std::span<float>& s : states) file->write(std::as_bytes(s));
  states_sum_ = checksum(states);
  const fs::path journal = output_->journal();
  pending_ = std::async(
      std::launch::async,
      [file, journal, before, all = text(states_, file->size()), write = std::move(write)] {
        if (write) write();
        file->close();
        replace_text(journal, all);
        std::error_code ec;
        if (!before.empty()) fs::remove(journal.parent_path() / before, ec);
      });
}

void Journal::wait() {
  if (pending_.valid()) pending_.get();
}

double Journal::seconds() const {
  return seconds_before_ +
         std::chrono::duration<double>(std::chrono::steady_clock::now() - start_).count();
}

}  // namespace octet
