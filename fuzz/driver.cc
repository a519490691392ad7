// Runs a fuzz target without libFuzzer: the seed files as they are, then mutations of them, --runs
// of them or for OCTET_FUZZ_SECONDS.
#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Bytes = std::vector<uint8_t>;
Bytes current;  // for the signal handler

void save_and_die(int signal) {
  if (std::FILE* f = std::fopen("crash.bin", "wb")) {
    std::fwrite(current.data(), 1, current.size(), f);
    std::fclose(f);
  }
  std::signal(signal, SIG_DFL);
  std::raise(signal);
}

void run(Bytes input) {
  current = std::move(input);
  LLVMFuzzerTestOneInput(current.data(), current.size());
}

class Mutator {
 public:
  explicit Mutator(uint64_t seed) : random_(seed) {}

  Bytes operator()(const std::vector<Bytes>& seeds) {
    Bytes b = seeds[below(seeds.size())];
    for (size_t n = 1 + below(4); n > 0; --n) change(b, seeds);
    return b;
  }

 private:
  size_t below(size_t n) { return n == 0 ? 0 : random_() % n; }

  void change(Bytes& b, const std::vector<Bytes>& seeds) {
    static constexpr uint64_t kNumbers[] = {0,
                                            1,
                                            0x7f,
                                            0x80,
                                            0xff,
                                            0xffff,
                                            0x7fffffff,
                                            0x80000000,
                                            0xffffffff,
                                            0x7fffffffffffffff,
                                            0xffffffffffffffff};
    static const std::string kWords[] = {
        "null",     "-1",      "1e999", "[]",  "{}", "\"\"", "9223372036854775808",
        "[[[[[[[[", "\\ud800", "\xff",  "true"};
    const size_t at = below(b.size() + 1);
    switch (below(7)) {
      case 0:
        if (at < b.size()) b[at] ^= static_cast<uint8_t>(1u << below(8));
        break;
      case 1:
        b.resize(at);
        break;
      case 2: {  // a number, little endian
        const uint64_t v = kNumbers[below(std::size(kNumbers))];
        const size_t width = size_t{1} << below(4);
        for (size_t i = 0; i < width && at + i < b.size(); ++i)
          b[at + i] = static_cast<uint8_t>(v >> (8 * i));
        break;
      }
      case 3: {
        const std::string& w = kWords[below(std::size(kWords))];
        b.insert(b.begin() + static_cast<std::ptrdiff_t>(at), w.begin(), w.end());
        break;
      }
      case 4: {
        const size_t end = std::min(b.size(), at + below(64));
        b.erase(b.begin() + static_cast<std::ptrdiff_t>(at),
                b.begin() + static_cast<std::ptrdiff_t>(end));
        break;
      }
      case 5: {  // a piece of another seed
        const Bytes& other = seeds[below(seeds.size())];
        const size_t from = below(other.size() + 1),
                     size = std::min(other.size() - from, below(64));
        b.insert(b.begin() + static_cast<std::ptrdiff_t>(at),
                 other.begin() + static_cast<std::ptrdiff_t>(from),
                 other.begin() + static_cast<std::ptrdiff_t>(from + size));
        break;
      }
      default:
        if (at < b.size()) b[at] = static_cast<uint8_t>(random_());
    }
  }

  std::mt19937_64 random_;
};

}  // namespace

int main(int argc, char** argv) {
  uint64_t runs = 2000, seed = 1;
  std::vector<Bytes> seeds;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if ((word == "--runs" || word == "--seed") && i + 1 < argc) {
      (word == "--runs" ? runs : seed) = std::strtoull(argv[++i], nullptr, 10);
      continue;
    }
    std::ifstream file(word, std::ios::binary);
    if (!file) {
      std::fprintf(stderr, "cannot read %s\n", argv[i]);
      return 2;
    }
    seeds.emplace_back(std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>());
  }
  if (seeds.empty()) seeds.emplace_back();
  for (int signal : {SIGSEGV, SIGABRT, SIGFPE, SIGBUS, SIGILL}) std::signal(signal, save_and_die);
  for (const Bytes& s : seeds) run(s);
  Mutator mutate(seed);
  const char* limit = std::getenv("OCTET_FUZZ_SECONDS");
  const auto end = std::chrono::steady_clock::now() +
                   std::chrono::seconds(limit != nullptr ? std::atoi(limit) : 0);
  uint64_t done = 0;
  for (; limit != nullptr ? std::chrono::steady_clock::now() < end : done < runs; ++done)
    run(mutate(seeds));
  std::printf("%zu inputs\n", static_cast<size_t>(done) + seeds.size());
  return 0;
}
