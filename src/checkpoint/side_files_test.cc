#include "src/checkpoint/side_files.h"

#include <set>

#include "src/checkpoint/testing.h"

namespace octet {
namespace {

using octet::tests::TempFolder;

// The files below `folder`, by their path from there.
std::set<std::string> files_of(const fs::path& folder) {
  std::set<std::string> names;
  for (const auto& entry : fs::recursive_directory_iterator(folder))
    if (entry.is_regular_file()) names.insert(fs::relative(entry.path(), folder).string());
  return names;
}

TEST(SideFiles, WhatAModelIsUsedWith) {
  for (const char* name : {"tokenizer.json",
                           "tokenizer.model",
                           "tokenizer_config.json",
                           "special_tokens_map.json",
                           "added_tokens.json",
                           "vocab.json",
                           "merges.txt",
                           "generation_config.json",
                           "chat_template.jinja",
                           "chat_template.json",
                           "LICENSE",
                           "LICENSE.txt",
                           "License.md",
                           "LICENCE",
                           "NOTICE",
                           "USE_POLICY.md",
                           "octet_recipe.yaml",
                           "octet_practice.yaml",
                           "recipe.yaml",
                           "quantization_report.json",
                           "quantization_report.html"})
    EXPECT_TRUE(is_side_file(name)) << name;
}

TEST(SideFiles, NeitherWeightsNorWhatDescribesThem) {
  for (const char* name :
       {"config.json", "model.safetensors", "model.safetensors.index.json",
        "quant_model_description.json", "quant_model_weight_w8a8.safetensors",
        "pytorch_model.bin.index.json", "token_embedding.bin", "vocab.pt", "tokens.PTH",
        "tokenizer.gguf", "octet_source.json", "octet_source.tensors", "README.md",
        ".gitattributes", "modeling_llama.py"})
    EXPECT_FALSE(is_side_file(name)) << name;
}

TEST(SideFiles, LinksToNothingAreNamed) {
  const TempFolder from("side_links"), to("side_links_to");
  fs::create_symlink("nowhere", from / "LICENSE");  // nothing reads it
  fs::create_symlink("nowhere", from / "model.safetensors.index.json");
  EXPECT_NO_THROW(refuse_broken_side_files(from.path()));
  for (const char* name :
       {"generation_config.json", "chat_template.jinja", "special_tokens_map.json"}) {
    fs::create_symlink("../../blobs/0a1b", from / name);
    for (const bool copying : {false, true}) {
      try {
        copying ? copy_side_files(from.path(), to.path()) : refuse_broken_side_files(from.path());
        ADD_FAILURE() << name;
      } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find(name), std::string::npos) << e.what();
        EXPECT_NE(std::string(e.what()).find("blobs/0a1b"), std::string::npos) << e.what();
      }
    }
    fs::remove(from / name);
  }
  EXPECT_NO_THROW(copy_side_files(from.path(), to.path()));
}

TEST(SideFiles, GoAlongWhole) {
  const TempFolder from("side_from"), to("side_to");
  for (const char* folder : {"additional_chat_templates", "tokenizer_old"})
    fs::create_directory(from / folder);
  for (const char* name : {"tokenizer.json", "LICENSE", "config.json", "tokens.safetensors",
                           "additional_chat_templates/tool_use.jinja",
                           "additional_chat_templates/notes.txt", "tokenizer_old/vocab.json"})
    write_text(from / name, std::string("of ") + name);
  fs::create_symlink("LICENSE", from / "NOTICE");  // as in the hub's cache
  write_text(to / "tokenizer.json", "of tok");     // an interrupted run left half of it
  copy_side_files(from.path(), to.path());
  EXPECT_EQ(files_of(to.path()),
            (std::set<std::string>{"tokenizer.json", "LICENSE", "NOTICE",
                                   "additional_chat_templates/tool_use.jinja"}));
  EXPECT_EQ(read_text(to / "tokenizer.json"), "of tokenizer.json");
  EXPECT_EQ(read_text(to / "NOTICE"), "of LICENSE");
  EXPECT_FALSE(fs::is_symlink(to / "NOTICE"));
  EXPECT_EQ(read_text(to / "additional_chat_templates/tool_use.jinja"),
            "of additional_chat_templates/tool_use.jinja");
}

TEST(SideFiles, NoFolderOfTemplatesWhereThereIsNone) {
  const TempFolder from("side_from"), to("side_to");
  copy_side_files(from.path(), to.path());
  EXPECT_TRUE(fs::is_empty(to.path()));
}

}  // namespace
}  // namespace octet
