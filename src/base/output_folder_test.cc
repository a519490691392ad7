#include "src/base/output_folder.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "src/base/error.h"

namespace octet {
namespace {

class OutputFolderTest : public testing::Test {
 protected:
  OutputFolderTest()
      : dir_(fs::path(testing::TempDir()) / ("octet_output_" + std::to_string(::getpid()))) {
    fs::create_directories(dir_);
  }
  ~OutputFolderTest() override { fs::remove_all(dir_); }
  // What a run leaves that was interrupted after a layer.
  void interrupt(const fs::path& out) {
    OutputFolder folder(out, false);
    write_text(folder.path() / "x", "1");
    write_text(folder.journal(), "layer 0");
  }
  fs::path dir_;
};

TEST_F(OutputFolderTest, FolderAppearsWholeOrNotAtAll) {
  const fs::path out = dir_ / "out";
  {
    OutputFolder folder(out, false);
    write_text(folder.path() / "x", "1");
    EXPECT_FALSE(fs::exists(out));
  }
  EXPECT_TRUE(fs::is_empty(dir_));  // dropped without commit: nothing is left
  {
    OutputFolder folder(out, false);
    write_text(folder.path() / "x", "1");
    folder.commit();
  }
  EXPECT_EQ(read_text(out / "x"), "1");
  EXPECT_THROW(OutputFolder(out, false), Error);
  EXPECT_THROW(OutputFolder(out, true), Error);  // no model: spared
  EXPECT_EQ(read_text(out / "x"), "1");
  write_text(out / "config.json", "{}");
  {
    OutputFolder folder(out, true);
    write_text(folder.path() / "y", "2");
    folder.commit();
  }
  EXPECT_FALSE(fs::exists(out / "x"));
  EXPECT_EQ(read_text(out / "y"), "2");
  EXPECT_EQ(std::distance(fs::directory_iterator(dir_), fs::directory_iterator()), 1);
}

TEST_F(OutputFolderTest, ParentsMadeForAFolderGoWithIt) {
  { OutputFolder folder(dir_ / "a/b/out", false); }
  EXPECT_FALSE(fs::exists(dir_ / "a"));
  fs::create_directory(dir_ / "a");
  { OutputFolder folder(dir_ / "a/b/out", false); }
  EXPECT_TRUE(fs::exists(dir_ / "a"));
  EXPECT_FALSE(fs::exists(dir_ / "a/b"));
  OutputFolder(dir_ / "a/b/out", false).commit();
  EXPECT_TRUE(fs::is_directory(dir_ / "a/b/out"));
}

TEST_F(OutputFolderTest, FolderRefusesAFileAndAnUnwritableParent) {
  write_text(dir_ / "f", "");
  EXPECT_THROW(OutputFolder(dir_ / "f", true), Error);
  EXPECT_THROW(OutputFolder("/proc/octet/out", false), Error);
}

// Each is refused as usage, and nothing is made.
TEST_F(OutputFolderTest, WhatCannotBeWrittenIsRefusedBeforeAnyWork) {
  fs::create_symlink(dir_ / "nowhere", dir_ / "dangling");
  fs::create_symlink("loop", dir_ / "loop");
  write_text(dir_ / "file", "x");
  for (const fs::path& out :
       {dir_ / "dangling", dir_ / std::string(300, 'x'), dir_ / std::string(252, 'x'),
        dir_ / "a" / std::string(300, 'x') / "b", dir_ / "file/out", dir_ / "loop",
        dir_ / "loop/out", fs::path("/proc/octet"), fs::path("/proc/octet/out")}) {
    try {
      OutputFolder::expect_usable(out, false);
      ADD_FAILURE() << out;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kUsage) << e.what();
    }
    EXPECT_THROW(OutputFolder(out, false), Error);
  }
  EXPECT_EQ(std::distance(fs::directory_iterator(dir_), fs::directory_iterator()), 3);
  EXPECT_NO_THROW(OutputFolder::expect_usable(dir_ / "a/b/c", false));
  fs::create_directory_symlink(dir_, dir_ / "here");
  EXPECT_NO_THROW(OutputFolder::expect_usable(dir_ / "here/out", false));
}

// Whoever can write the parent may leave a link there: what it points to is not touched.
TEST_F(OutputFolderTest, ALinkInPlaceOfThePartialFolderIsNotFollowed) {
  const fs::path elsewhere = dir_ / "elsewhere", out = dir_ / "out";
  interrupt(elsewhere);
  const fs::path theirs = dir_ / "elsewhere.partial";
  fs::create_directory_symlink(theirs, dir_ / "out.partial");
  EXPECT_THROW(OutputFolder(out, true), Error);
  EXPECT_TRUE(fs::exists(theirs / "files/x"));
  fs::remove(dir_ / "out.partial");
  // Links inside go, what they point to stays.
  interrupt(out);
  fs::create_directory_symlink(theirs, dir_ / "out.partial/link");
  fs::create_symlink(theirs / "files/x", dir_ / "out.partial/files/link");
  { OutputFolder folder(out, true); }
  EXPECT_FALSE(fs::exists(dir_ / "out.partial"));
  EXPECT_EQ(read_text(theirs / "files/x"), "1");
}

// `old` would be taken for the target that an interrupted run was about to replace.
TEST_F(OutputFolderTest, LinksPlantedInThePartialFolderAreRefused) {
  const fs::path theirs = dir_ / "theirs", out = dir_ / "out", partial = dir_ / "out.partial";
  fs::create_directory(theirs);
  write_text(theirs / "config.json", "{}");
  for (const char* name : {"old", "files", "journal", "lock"}) {
    fs::create_directory(partial);
    write_text(partial / "lock", "");
    fs::remove(partial / name);
    fs::create_symlink(theirs, partial / name);
    for (const bool resume : {false, true}) {
      try {
        const OutputFolder folder(out, true, resume);
        ADD_FAILURE() << name;
      } catch (const Error& e) {
        EXPECT_EQ(e.kind(), ErrorKind::kUsage) << e.what();
        EXPECT_NE(std::string(e.what()).find((partial / name).string()), std::string::npos)
            << e.what();
      }
    }
    EXPECT_THROW(OutputFolder::expect_usable(out, true), Error) << name;
    EXPECT_FALSE(fs::is_symlink(out)) << name;
    EXPECT_EQ(read_text(theirs / "config.json"), "{}");
    fs::remove_all(partial);
  }
}

TEST_F(OutputFolderTest, OverlapsAreRefused) {
  fs::create_directories(dir_ / "in/sub");
  fs::create_directory_symlink(dir_ / "in", dir_ / "link");
  for (const char* out : {"in", "in/", "in/.", "in/sub", "in/new", "link", "link/x", "."})
    EXPECT_THROW(refuse_overlap(dir_ / "in", dir_ / out), Error) << out;
  fs::create_symlink("loop", dir_ / "loop");
  for (const char* out : {"loop", "loop/out"}) {
    try {
      refuse_overlap(dir_ / "in", dir_ / out);
      ADD_FAILURE() << out;
    } catch (const Error& e) {
      EXPECT_EQ(e.kind(), ErrorKind::kUsage) << e.what();
    }
  }
  for (const char* out : {"inn", "out", "out/in"})
    EXPECT_NO_THROW(refuse_overlap(dir_ / "in", dir_ / out)) << out;
}

TEST_F(OutputFolderTest, AJournalKeepsThePartialFolder) {
  const fs::path out = dir_ / "out", partial = dir_ / "out.partial";
  interrupt(out);
  EXPECT_FALSE(fs::exists(out));
  EXPECT_EQ(OutputFolder::resumable(out), partial);
  EXPECT_TRUE(OutputFolder::is_partial(partial));
  EXPECT_THROW(OutputFolder(out, false), Error);
  EXPECT_TRUE(fs::exists(partial / "journal"));
  {
    OutputFolder folder(out, false, true);
    EXPECT_TRUE(folder.resumed());
    EXPECT_EQ(read_text(folder.path() / "x"), "1");
    folder.commit();
  }
  EXPECT_EQ(read_text(out / "x"), "1");
  EXPECT_FALSE(fs::exists(out / "journal"));
  EXPECT_FALSE(fs::exists(partial));
}

TEST_F(OutputFolderTest, OverwriteBeginsAnew) {
  interrupt(dir_ / "out");
  OutputFolder folder(dir_ / "out", true);
  EXPECT_FALSE(folder.resumed());
  EXPECT_FALSE(fs::exists(folder.journal()));
  EXPECT_TRUE(fs::is_empty(folder.path()));
}

TEST_F(OutputFolderTest, ResumeWithoutALeftoverBegins) {
  EXPECT_FALSE(OutputFolder(dir_ / "out", false, true).resumed());
  EXPECT_TRUE(fs::is_empty(dir_));
}

TEST_F(OutputFolderTest, OneWriterAtATime) {
  const OutputFolder first(dir_ / "out", false);
  EXPECT_THROW(OutputFolder(dir_ / "out", true), Error);
  EXPECT_TRUE(fs::exists(first.path()));
}

TEST_F(OutputFolderTest, ForeignFoldersAreLeftAlone) {
  fs::create_directory(dir_ / "out.partial");
  write_text(dir_ / "out.partial/mine", "mine");
  EXPECT_THROW(OutputFolder(dir_ / "out", true), Error);
  EXPECT_EQ(read_text(dir_ / "out.partial/mine"), "mine");
}

}  // namespace
}  // namespace octet
