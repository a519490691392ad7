// A small LLaMA, Qwen2 or Qwen3 model as a GGUF file, for the tests of this level.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "src/checkpoint/gguf_testing.h"
#include "src/text/testing.h"

namespace octet::text::tests {

struct TinyGguf {
  std::string arch = "llama", pre = "smollm", model = "gpt2";
  bool tied = true;
  float value_offset = 0;  // added to every weight
  std::vector<std::string> merges = {"h e", "l l", "he ll"};
  std::string drop = {};            // a tensor that is left out
  std::string extra = {};           // a tensor too many
  std::string doubled_token = {};   // takes the place of token 0
  int add_bos = -1;                 // -1: the file does not say
  std::vector<int32_t> types = {};  // empty: as below

  // 32 wide, 2 layers, 4 heads of 8 with 2 key/value heads, MLP 64; 264 rows in the embedding.
  // Tokens: the bytes, "he", "ll", "hell", "<|bos|>" (control), "<|end|>" (control), "<tool>" (user
  // defined), two unused ones. Element i of a tensor (as stored) is i plus value_offset.
  octet::tests::GgufBuilder build() const {
    std::vector<std::pair<std::string, std::vector<uint64_t>>> tensors = {
        {"token_embd.weight", {32, 264}}, {"output_norm.weight", {32}}};
    if (!tied) tensors.push_back({"output.weight", {32, 264}});
    for (int i = 0; i < 2; ++i) {
      const std::string p = "blk." + std::to_string(i) + ".";
      for (const char* name : {"attn_norm.weight", "ffn_norm.weight"})
        tensors.push_back({p + name, {32}});
      tensors.push_back({p + "attn_q.weight", {32, 32}});
      tensors.push_back({p + "attn_k.weight", {32, 16}});
      tensors.push_back({p + "attn_v.weight", {32, 16}});
      tensors.push_back({p + "attn_output.weight", {32, 32}});
      tensors.push_back({p + "ffn_gate.weight", {32, 64}});
      tensors.push_back({p + "ffn_up.weight", {32, 64}});
      tensors.push_back({p + "ffn_down.weight", {64, 32}});
      if (arch == "qwen3")
        for (const char* name : {"attn_q_norm.weight", "attn_k_norm.weight"})
          tensors.push_back({p + name, {8}});
      if (arch == "qwen2") {
        tensors.push_back({p + "attn_q.bias", {32}});
        tensors.push_back({p + "attn_k.bias", {16}});
        tensors.push_back({p + "attn_v.bias", {16}});
      }
    }
    if (!extra.empty()) tensors.push_back({extra, {32}});
    std::erase_if(tensors, [this](const auto& t) { return t.first == drop; });

    std::vector<std::string> tokens;
    for (int b = 0; b < 256; ++b) tokens.push_back(spell_byte(b));
    for (const char* t : {"he", "ll", "hell", "<|bos|>", "<|end|>", "<tool>", "[PAD]", "[PAD2]"})
      tokens.push_back(t);
    if (!doubled_token.empty()) tokens[0] = doubled_token;
    std::vector<int32_t> kinds(264, 1);
    kinds[259] = kinds[260] = 3;
    kinds[261] = 4;
    kinds[262] = kinds[263] = 5;

    octet::tests::GgufBuilder b;
    b.header(tensors.size(), 17u + (add_bos < 0 ? 0u : 1u))
        .text("general.architecture", arch)
        .uint(arch + ".block_count", 2)
        .uint(arch + ".embedding_length", 32)
        .uint(arch + ".feed_forward_length", 64)
        .uint(arch + ".attention.head_count", 4)
        .uint(arch + ".attention.head_count_kv", 2)
        .uint(arch + ".context_length", 128)
        .real(arch + ".attention.layer_norm_rms_epsilon", 1e-5f)
        .real(arch + ".rope.freq_base", 500000.0f)
        .text("tokenizer.ggml.model", model)
        .text("tokenizer.ggml.pre", pre)
        .texts("tokenizer.ggml.tokens", tokens)
        .ints("tokenizer.ggml.token_type", types.empty() ? kinds : types)
        .texts("tokenizer.ggml.merges", merges)
        .uint("tokenizer.ggml.bos_token_id", 259)
        .uint("tokenizer.ggml.eos_token_id", 260)
        .text("tokenizer.chat_template", "{% for m in messages %}{{ m.content }}{% endfor %}");
    if (add_bos >= 0) b.flag("tokenizer.ggml.add_bos_token", add_bos != 0);
    uint64_t offset = 0;
    std::vector<uint64_t> sizes;
    for (const auto& [name, dims] : tensors) {
      uint64_t elements = 1;
      for (const uint64_t d : dims) elements *= d;
      b.tensor(name, dims, 0, offset);
      sizes.push_back(elements);
      offset += (elements * sizeof(float) + 31) / 32 * 32;
    }
    b.align();
    for (const uint64_t elements : sizes) {
      for (uint64_t i = 0; i < elements; ++i) b.number(static_cast<float>(i) + value_offset);
      b.align();
    }
    return b;
  }
};

}  // namespace octet::text::tests
