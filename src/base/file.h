// Files: a read-only mapping, a file being written, small helpers.
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

#include "src/base/error.h"

namespace octet {

namespace fs = std::filesystem;

// "cannot ACTION: REASON" with the reason that errno says.
Error system_error(const fs::path& path, const char* action);
// Whether there is an entry of this name, be it a link to nothing: a file that may be absent is not
// when its link is broken, and opening it says so.
bool has_entry(const fs::path& path);
// Flushes a folder's entries to disk. Throws Error.
void sync_folder(const fs::path& path);

// A file mapped read-only for its owner's lifetime. Move-only; an empty file maps to an empty span.
// When the file is cut short meanwhile, reading what is gone ends the program with one line that
// names it (exit code 1).
class MappedFile {
 public:
  MappedFile() = default;
  // Throws Error when the file cannot be opened, is no regular file or cannot be mapped; it says so
  // of a link whose target is missing.
  explicit MappedFile(const fs::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;

  std::span<const std::byte> bytes() const { return {data_, size_}; }
  const fs::path& path() const { return path_; }
  // Tells the kernel that [offset, offset + size) was read and need not stay in memory, or that it
  // will be read soon.
  void release(size_t offset, size_t size) const noexcept;
  void will_need(size_t offset, size_t size) const noexcept;

 private:
  fs::path path_;
  const std::byte* data_ = nullptr;
  size_t size_ = 0;
};

// Throws Error when the file is a git-lfs pointer: what a clone leaves in a large file's place
// where git-lfs is missing.
void refuse_lfs_pointer(const MappedFile& file);

// A file being written. close() flushes to disk and reports errors; the destructor only closes.
class OutputFile {
 public:
  explicit OutputFile(const fs::path& path);  // truncates; throws Error
  // An existing file, cut to its first `keep` bytes, to be written on behind them. Throws Error,
  // also when it is shorter.
  OutputFile(const fs::path& path, uint64_t keep);
  ~OutputFile();
  OutputFile(OutputFile&& other) noexcept;
  OutputFile& operator=(OutputFile&&) = delete;
  OutputFile(const OutputFile&) = delete;

  void write(std::span<const std::byte> bytes);  // throws Error (disk full, ...)
  void write(std::string_view text) { write(std::as_bytes(std::span(text))); }
  void sync();   // what is written so far to disk; throws Error
  void close();  // sync + close; throws Error
  uint64_t size() const { return size_; }

 private:
  fs::path path_;
  int fd_ = -1;
  uint64_t size_ = 0;
};

// Whole small files. read_text throws when the file is larger than `max_bytes`, or a git-lfs
// pointer.
std::string read_text(const fs::path& path, uint64_t max_bytes = uint64_t{256} << 20);
void write_text(const fs::path& path, std::string_view text);
// The same in one step: after a crash the file holds the old text or the new one.
void replace_text(const fs::path& path, std::string_view text);

// Calls `visit(number, line)` for every line of `text` that is not blank; numbers count from one
// and include blank lines.
void for_each_line(std::string_view text,
                   const std::function<void(size_t number, std::string_view line)>& visit);

}  // namespace octet
