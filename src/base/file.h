// Files: a read-only mapping, a write-whole-or-not-at-all output folder, small helpers.
//
// Every failing system call becomes an Error that names the file and the reason.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace octet {

namespace fs = std::filesystem;

// A file mapped read-only for its owner's lifetime. Move-only; an empty file maps to an empty span.
class MappedFile {
 public:
  MappedFile() = default;
  // Throws Error when the file cannot be opened, is no regular file or cannot be mapped.
  explicit MappedFile(const fs::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const fs::path& path() const { return path_; }
  // Tells the kernel that [offset, offset + size) was read and need not stay in memory.
  void release(size_t offset, size_t size) const noexcept;

 private:
  fs::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// A file being written. close() flushes to disk and reports errors; the destructor only closes.
class OutputFile {
 public:
  explicit OutputFile(const fs::path& path);  // truncates; throws Error
  ~OutputFile();
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  OutputFile(const OutputFile&) = delete;

  void write(std::span<const std::byte> bytes);  // throws Error (disk full, ...)
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  void close();  // fsync + close; throws Error
  uint64_t size() const { return size_; }

 private:
  fs::path path_;
  int fd_ = -1;
  uint64_t size_ = 0;
};

// A folder that appears whole or not at all: everything is written to `<target>.partial-<pid>`
// beside the target and renamed by commit(). Without commit() the destructor removes it, and the
// parents that were made for it.
class OutputFolder {
 public:
  // Throws kUsage when `target` exists and is not an empty folder (unless `overwrite`, which
  // replaces it at commit), or Error when its parent cannot be written.
  OutputFolder(const fs::path& target, bool overwrite);
  ~OutputFolder();
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  const fs::path& path() const { return partial_; }  // write here
  const fs::path& target() const { return target_; }
  // Flushes the folder and renames it into place. Throws Error; a folder that was to be replaced is
  // then where it was.
  void commit();

 private:
  void remove() const noexcept;

  fs::path target_, partial_;
  std::vector<fs::path> created_;  // parents that were not there, innermost first
  bool overwrite_;
  bool committed_ = false;
};

// Throws kUsage when `output` is `input`, holds it or lies in it: replacing the one would destroy
// the other.
void refuse_overlap(const fs::path& input, const fs::path& output);

// Whole small files. read_text throws when the file is larger than `max_bytes`.
std::string read_text(const fs::path& path, uint64_t max_bytes = uint64_t{256} << 20);
void write_text(const fs::path& path, std::string_view text);

// Calls `visit(number, line)` for every line of `text` that is not blank; numbers count from one
// and include blank lines.
void for_each_line(std::string_view text,
                   const std::function<void(size_t number, std::string_view line)>& visit);

}  // namespace octet
