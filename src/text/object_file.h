// Files of a model folder that hold one JSON object and may be absent.
#pragma once

#include <type_traits>

#include "src/base/error.h"
#include "src/base/file.h"
#include "src/base/json.h"

namespace octet::text {

// The object in the file; an empty one when there is no such file. Throws Error for what is none.
template <typename Json>
Json read_object_file(const fs::path& path) {
  if (!has_entry(path)) return Json::object();
  Json object;
  if constexpr (std::is_same_v<Json, json>)
    object = parse_json(read_text(path), path.string());
  else
    object = parse_ordered_json(read_text(path), path.string());
  if (!object.is_object()) throw Error("is not a JSON object").file(path.string());
  return object;
}

}  // namespace octet::text
