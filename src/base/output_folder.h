// A folder that appears whole or not at all, and what an interrupted run leaves of it.
//
// While it is written there is `<target>.partial` beside the target. No loader takes it for a
// model: it holds no config and no weights itself, but
//
//   lock      held while a run writes (flock), so that a second one is refused
//   files/    what the target will hold
//   journal   only of work that can be resumed, and written by whoever resumes it
//             (src/quant/output/journal.h); what else that work needs stands beside it
#pragma once

#include <string>
#include <vector>

#include "src/base/file.h"

namespace octet {

// An exclusive lock on a file, for its owner's lifetime.
class FileLock {
 public:
  FileLock() = default;
  // Creates `file`, and its folder if need be. Throws kUsage Error when another process holds the
  // lock, Error when the file cannot be written. File systems without locks do without.
  explicit FileLock(const fs::path& file);
  ~FileLock();
  FileLock(FileLock&& other) noexcept;
  FileLock& operator=(FileLock&& other) noexcept;
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;
  bool held() const { return fd_ >= 0; }

 private:
  int fd_ = -1;
};

class OutputFolder {
 public:
  // Throws kUsage Error when `target` exists and is not an empty folder (unless `overwrite`, which
  // replaces a model at commit, and nothing else), when another run writes it, or when an
  // interrupted run left a journal and neither `resume` (go on) nor `overwrite` (begin anew) says
  // what to do with it, when something else is in the place of such a leftover (a link, above all),
  // or when no folder can be made there. What was left without a journal is removed.
  OutputFolder(const fs::path& target, bool overwrite, bool resume = false);
  // The same refusals as far as they show before anything is made that stays, for a verb to call
  // before it begins to work. Throws kUsage Error.
  static void expect_usable(const fs::path& target, bool overwrite);
  // Without commit() removes the partial folder, and the parents made for it, unless there is a
  // journal.
  ~OutputFolder();
  OutputFolder(const OutputFolder&) = delete;
  OutputFolder& operator=(const OutputFolder&) = delete;

  fs::path path() const { return partial_ / "files"; }  // write here
  const fs::path& target() const { return target_; }
  const fs::path& partial() const { return partial_; }
  fs::path journal() const { return partial_ / "journal"; }
  bool resumed() const { return resumed_; }  // there is a journal to go on with
  // Flushes the folder and renames it into place; the partial folder goes. Throws Error; a folder
  // that was to be replaced is then where it was.
  void commit();

  // Whether `folder` is what an output is until it is whole.
  static bool is_partial(const fs::path& folder);
  // The partial folder of `target` when it holds work that can be resumed, else empty.
  static fs::path resumable(const fs::path& target);

 private:
  void make_parents();
  void open_partial();
  void settle_leftovers(bool resume);
  void clear() const noexcept;   // all but the lock
  void remove() const noexcept;  // all

  fs::path target_, partial_;
  std::vector<fs::path> created_;  // parents that were not there, innermost first
  bool overwrite_;
  bool resumed_ = false, committed_ = false;
  int folder_ = -1;  // partial_, opened: what is removed is removed below this
  FileLock lock_;
};

// Throws kUsage when `output` is `input`, holds it or lies in it: replacing the one would destroy
// the other.
void refuse_overlap(const fs::path& input, const fs::path& output);

}  // namespace octet
