#include "src/checkpoint/side_files.h"

#include <algorithm>
#include <array>
#include <cctype>

namespace octet {
namespace {

constexpr const char* kTemplates = "additional_chat_templates";

// Parts of names, in small letters.
constexpr std::array kWords = {"token",         "vocab",   "merges",         "generation_config",
                               "chat_template", "license", "licence",        "notice",
                               "use_policy",    "recipe",  "octet_practice", "quantization_report"};
constexpr std::array kRead = {".json", ".jinja", ".model"};
constexpr std::array kWeights = {".safetensors", ".bin", ".pt", ".pth", ".gguf", ".index.json"};

}  // namespace

bool is_side_file(const std::string& name) {
  std::string lower = name;
  for (char& c : lower) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const auto ends = [&](const char* end) { return lower.ends_with(end); };
  const auto holds = [&](const char* word) { return lower.find(word) != std::string::npos; };
  return std::none_of(kWeights.begin(), kWeights.end(), ends) &&
         std::any_of(kWords.begin(), kWords.end(), holds);
}

void refuse_broken_side_files(const fs::path& folder) {
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(folder, ec)) {
    const std::string name = entry.path().filename().string();
    if (is_side_file(name) &&
        std::any_of(kRead.begin(), kRead.end(),
                    [&](const char* end) { return name.ends_with(end); }) &&
        entry.is_symlink(ec) && !fs::exists(entry.path(), ec))
      MappedFile{entry.path()};  // says what is missing
  }
}

void copy_side_files(const fs::path& from, const fs::path& to) {
  refuse_broken_side_files(from);
  const auto copy = [&](const fs::path& name) {
    const MappedFile file(from / name);  // may be a git-lfs pointer that nobody needs
    OutputFile out(to / name);
    out.write(file.bytes());
    out.close();
  };
  for (const auto& entry : fs::directory_iterator(from))
    if (entry.is_regular_file() && is_side_file(entry.path().filename().string()))
      copy(entry.path().filename());
  if (!fs::is_directory(from / kTemplates)) return;
  fs::create_directory(to / kTemplates);
  for (const auto& entry : fs::directory_iterator(from / kTemplates))
    if (entry.is_regular_file() && entry.path().extension() == ".jinja")
      copy(kTemplates / entry.path().filename());
}

}  // namespace octet
