#include "src/base/json.h"

#include <fmt/format.h>

#include <type_traits>
#include <unordered_map>
#include <utility>
#include <vector>

#include "src/base/error.h"

template class nlohmann::basic_json<>;
template class nlohmann::basic_json<nlohmann::ordered_map>;

namespace octet {
namespace {

// Builds the document from nlohmann's events. Its own builders look through all members of a parent
// for every child, which is quadratic in an object's or array's length.
template <typename Json>
class Builder final : public nlohmann::json_sax<Json> {
 public:
  using Base = nlohmann::json_sax<Json>;

  Builder(const std::string& where, const JsonLimits& limits) : where_(where), limits_(limits) {}
  Json take() { return std::move(root_); }

  bool null() override { return put(nullptr) != nullptr; }
  bool boolean(bool v) override { return put(v) != nullptr; }
  bool number_integer(typename Base::number_integer_t v) override { return put(v) != nullptr; }
  bool number_unsigned(typename Base::number_unsigned_t v) override { return put(v) != nullptr; }
  bool number_float(typename Base::number_float_t v, const std::string&) override {
    return put(v) != nullptr;
  }
  bool string(std::string& v) override { return put(std::move(v)) != nullptr; }
  bool binary(typename Base::binary_t&) override { return false; }  // not of text
  bool start_object(size_t) override { return open(Json::object()); }
  bool key(std::string& v) override {
    levels_.back().key = std::move(v);
    return true;
  }
  bool end_object() override { return close(); }
  bool start_array(size_t) override { return open(Json::array()); }
  bool end_array() override { return close(); }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception& e) override {
    std::string reason = e.what();  // "[json.exception.parse_error.101] parse error at line ..."
    if (const auto end = reason.find("] "); end != std::string::npos) reason.erase(0, end + 2);
    if (reason.size() > 200) reason.resize(200);
    for (char& c : reason)  // the parser quotes its input, whatever that is
      if (static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e) c = '?';
    throw Error("is not valid JSON: " + reason).file(where_);
  }

 private:
  // An object or array that is not closed yet. Only the last child of a parent is ever open, so
  // nothing moves while it is pointed to.
  struct Level {
    Json* value;
    std::string key{};                                 // of the next member
    std::unordered_map<std::string, size_t> places{};  // of the members of an ordered object
  };

  bool open(Json empty) {
    if (levels_.size() >= limits_.depth)
      throw Error(fmt::format("JSON is nested deeper than {} levels", limits_.depth)).file(where_);
    levels_.push_back({put(std::move(empty))});
    return true;
  }
  bool close() {
    levels_.pop_back();
    return true;
  }

  Json* put(Json v) {
    if (++values_ > limits_.values)
      throw Error(fmt::format("JSON has more than {} values", limits_.values)).file(where_);
    if (levels_.empty()) {
      root_ = std::move(v);
      return &root_;
    }
    Level& level = levels_.back();
    if (level.value->is_object()) return member(level, std::move(v));
    level.value->push_back(std::move(v));
    return &level.value->back();
  }

  Json* member(Level& level, Json v) {
    auto& object = level.value->template get_ref<typename Json::object_t&>();
    size_t place = object.size();
    bool known = false;
    if constexpr (kOrdered) {
      const auto [it, added] = level.places.emplace(level.key, place);
      place = it->second;
      known = !added;
    } else {
      known = object.contains(level.key);
    }
    if (known && limits_.unique_keys)
      throw Error("JSON key occurs twice").file(where_).field(level.key);
    if constexpr (kOrdered) {
      // Its own functions look for the key among all others.
      auto& members = static_cast<typename Json::object_t::Container&>(object);
      if (!known) return &members.emplace_back(std::move(level.key), std::move(v)).second;
      return &(members[place].second = std::move(v));
    } else {
      return &(object[std::move(level.key)] = std::move(v));
    }
  }

  static constexpr bool kOrdered = std::is_same_v<Json, ordered_json>;

  const std::string& where_;
  const JsonLimits& limits_;
  Json root_;
  std::vector<Level> levels_;
  size_t values_ = 0;
};

template <typename Json>
Json parse(std::string_view text, const std::string& where, const JsonLimits& limits) {
  Builder<Json> builder(where, limits);
  Json::sax_parse(text.begin(), text.end(), &builder);
  return builder.take();
}

const json* find(const json& object, const char* key) {
  const auto it = object.find(key);
  return it == object.end() || it->is_null() ? nullptr : &*it;
}

Error wrong(const std::string& where, const char* key, std::string expected, const json* v) {
  std::string found =
      v == nullptr ? "nothing" : v->dump(-1, ' ', false, json::error_handler_t::replace);
  if (found.size() > 80) found = found.substr(0, 80) + "...";
  return Error("bad value").file(where).field(key).expected(std::move(expected)).found(found);
}

}  // namespace

json parse_json(std::string_view text, const std::string& where, const JsonLimits& limits) {
  return parse<json>(text, where, limits);
}

ordered_json parse_ordered_json(std::string_view text, const std::string& where,
                                const JsonLimits& limits) {
  return parse<ordered_json>(text, where, limits);
}

int64_t get_int(const json& object, const char* key, const std::string& where, int64_t lo,
                int64_t hi) {
  const json* v = find(object, key);
  const bool fits = v != nullptr && v->is_number_integer() &&
                    !(v->is_number_unsigned() &&
                      v->get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()});
  if (!fits || v->get<int64_t>() < lo || v->get<int64_t>() > hi)
    throw wrong(where, key, fmt::format("an integer from {} to {}", lo, hi), v);
  return v->get<int64_t>();
}

int64_t get_int_or(const json& object, const char* key, int64_t fallback, const std::string& where,
                   int64_t lo, int64_t hi) {
  return find(object, key) == nullptr ? fallback : get_int(object, key, where, lo, hi);
}

double get_number(const json& object, const char* key, const std::string& where) {
  const json* v = find(object, key);
  if (v == nullptr || !v->is_number()) throw wrong(where, key, "a number", v);
  return v->get<double>();
}

double get_number_or(const json& object, const char* key, double fallback,
                     const std::string& where) {
  return find(object, key) == nullptr ? fallback : get_number(object, key, where);
}

std::string get_string_or(const json& object, const char* key, std::string fallback,
                          const std::string& where) {
  const json* v = find(object, key);
  if (v == nullptr) return fallback;
  if (!v->is_string()) throw wrong(where, key, "a string", v);
  return v->get<std::string>();
}

bool get_bool_or(const json& object, const char* key, bool fallback, const std::string& where) {
  const json* v = find(object, key);
  if (v == nullptr) return fallback;
  if (!v->is_boolean()) throw wrong(where, key, "true or false", v);
  return v->get<bool>();
}

}  // namespace octet
