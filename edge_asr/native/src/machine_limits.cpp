// The two limits of the machine that an expert layer runs into: how many bytes per second can be
// read from memory, and how many 8-bit multiply-adds per second one thread can do.
//
// Both are the best of several rounds: on a machine that others use too, the best round is the one
// that the others disturbed least, and a limit that is too low would flatter the kernels.

#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <thread>
#include <vector>

#include "edge_asr_native.h"
#include "processor.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

namespace {

constexpr std::size_t kHugePage = std::size_t{2} << 20;
constexpr int kReadRounds = 8;
constexpr int kPeakRounds = 12;

double seconds() {
  using Clock = std::chrono::steady_clock;
  return std::chrono::duration<double>(Clock::now().time_since_epoch()).count();
}

// Memory of whole huge pages where the system has them; a TLB miss per 4 KB is no limit of memory.
class HugeBuffer {
 public:
  explicit HugeBuffer(std::size_t bytes) : mapped_(bytes + kHugePage) {
    void* base = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (base == MAP_FAILED) return;
    base_ = base;
    const std::size_t past_page = reinterpret_cast<std::uintptr_t>(base) % kHugePage;
    auto* data = static_cast<std::uint8_t*>(base) + (kHugePage - past_page) % kHugePage;
    data_ = data;
#if defined(MADV_HUGEPAGE)
    madvise(base, mapped_, MADV_HUGEPAGE);
#endif
    // Pages exist once they are written, and pages of zeros could share one.
    for (std::size_t i = 0; i < bytes; i += 64) data[i] = static_cast<std::uint8_t>(i >> 6 | 1);
  }
  ~HugeBuffer() {
    if (base_ != nullptr) munmap(base_, mapped_);
  }
  HugeBuffer(const HugeBuffer&) = delete;
  HugeBuffer& operator=(const HugeBuffer&) = delete;

  const std::uint8_t* data() const { return data_; }

 private:
  std::size_t mapped_;
  void* base_ = nullptr;
  const std::uint8_t* data_ = nullptr;
};

// A slice is read as several streams at once, because one alone does not keep enough lines on
// their way. `lane` is half of the slice and a multiple of 256 bytes.
constexpr int kStreams = 2;
using ReadSlice = std::uint64_t (*)(const std::uint8_t* data, std::size_t lane);

[[maybe_unused]] std::uint64_t read_portable(const std::uint8_t* data, std::size_t lane) {
  std::uint64_t sums[kStreams] = {};
  const auto* words = reinterpret_cast<const std::uint64_t*>(data);
  const std::size_t count = lane / 8;
  for (std::size_t i = 0; i < count; i += 8)
    for (int s = 0; s < kStreams; ++s)
      for (int j = 0; j < 8; ++j) sums[s] += words[static_cast<std::size_t>(s) * count + i + j];
  return sums[0] + sums[1];
}

// The loop for registers of `Register`: a line of each stream at a time, fetched 1024 bytes ahead.
// A macro, because no template is compiled for the processor that its caller is compiled for.
#define EDGE_ASR_READ_SLICE(Register, load, add, prefetch)                      \
  Register sums[kStreams] = {};                                                 \
  for (std::size_t i = 0; i < lane; i += 128)                                   \
    for (int s = 0; s < kStreams; ++s) {                                        \
      const std::uint8_t* line = data + static_cast<std::size_t>(s) * lane + i; \
      prefetch(line + 1024);                                                    \
      prefetch(line + 1088);                                                    \
      for (std::size_t j = 0; j < 128; j += sizeof(Register))                   \
        sums[s] = add(sums[s], load(line + j));                                 \
    }                                                                           \
  std::uint64_t words[kStreams * sizeof(Register) / 8], total = 0;              \
  std::memcpy(words, sums, sizeof sums);                                        \
  for (const std::uint64_t word : words) total += word;                         \
  return total

#if defined(__x86_64__)

#define EDGE_ASR_PREFETCH(line) _mm_prefetch(reinterpret_cast<const char*>(line), _MM_HINT_T0)
#define EDGE_ASR_LOAD_256(from) _mm256_loadu_si256(reinterpret_cast<const __m256i*>(from))

__attribute__((target("avx512f"))) std::uint64_t read_avx512(const std::uint8_t* data,
                                                             std::size_t lane) {
  EDGE_ASR_READ_SLICE(__m512i, _mm512_loadu_si512, _mm512_add_epi64, EDGE_ASR_PREFETCH);
}

__attribute__((target("avx2"))) std::uint64_t read_avx2(const std::uint8_t* data,
                                                        std::size_t lane) {
  EDGE_ASR_READ_SLICE(__m256i, EDGE_ASR_LOAD_256, _mm256_add_epi64, EDGE_ASR_PREFETCH);
}

ReadSlice choose_read() {
  if (__builtin_cpu_supports("avx512f")) return read_avx512;
  if (__builtin_cpu_supports("avx2")) return read_avx2;
  return read_portable;
}

#elif defined(__aarch64__)

#define EDGE_ASR_LOAD_128(from) vreinterpretq_u64_u8(vld1q_u8(from))

std::uint64_t read_neon(const std::uint8_t* data, std::size_t lane) {
  EDGE_ASR_READ_SLICE(uint64x2_t, EDGE_ASR_LOAD_128, vaddq_u64, __builtin_prefetch);
}

ReadSlice choose_read() { return read_neon; }

#else

ReadSlice choose_read() { return read_portable; }

#endif

// One round of a peak: a loop of independent multiply-adds on registers. Each returns how many
// 8-bit multiply-adds it did. The assembly is there so that no compiler removes or merges them.
using PeakRound = double (*)(long loops);

[[maybe_unused]] double peak_portable(long loops) {
  std::int32_t sums[16] = {};
  std::int8_t a[16], b[16];
  for (int i = 0; i < 16; ++i) {
    a[i] = static_cast<std::int8_t>(i);
    b[i] = static_cast<std::int8_t>(3 - i);
  }
  for (long i = 0; i < loops; ++i) {
    asm volatile("" : : "r"(a), "r"(b), "r"(sums) : "memory");
    for (int j = 0; j < 16; ++j) sums[j] += std::int32_t{a[j]} * b[j];
  }
  asm volatile("" : : "r"(sums) : "memory");
  return static_cast<double>(loops) * 16;
}

// A round of one instruction, whose text `instruction` makes for an accumulator's number. Twelve
// accumulators, registers 2 to 13, keep every processor busy: nothing else runs in the loop.
#define EDGE_ASR_TWELVE(instruction)                                                         \
  instruction("2") instruction("3") instruction("4") instruction("5") instruction("6")       \
      instruction("7") instruction("8") instruction("9") instruction("10") instruction("11") \
          instruction("12") instruction("13")

#define EDGE_ASR_PEAK_ROUND(instruction, macs, r)                                                \
  for (long i = 0; i < loops; ++i)                                                               \
    asm volatile(EDGE_ASR_TWELVE(instruction)                                                    \
                 :                                                                               \
                 :                                                                               \
                 : r "0", r "1", r "2", r "3", r "4", r "5", r "6", r "7", r "8", r "9", r "10", \
                   r "11", r "12", r "13");                                                      \
  return static_cast<double>(loops) * 12 * (macs)

#if defined(__x86_64__)

#define EDGE_ASR_VPDPBUSD_512(n) "vpdpbusd %%zmm0, %%zmm1, %%zmm" n "\n"
// The VEX form, on 32 bytes: client processors have VNNI without AVX-512.
#define EDGE_ASR_VPDPBUSD_256(n) "%{vex%} vpdpbusd %%ymm0, %%ymm1, %%ymm" n "\n"

__attribute__((target("avx512f,avx512vnni"))) double peak_avx512_vnni(long loops) {
  EDGE_ASR_PEAK_ROUND(EDGE_ASR_VPDPBUSD_512, 64, "xmm");
}

__attribute__((target("avx2"))) double peak_avx_vnni(long loops) {
  EDGE_ASR_PEAK_ROUND(EDGE_ASR_VPDPBUSD_256, 32, "xmm");
}

// Before VNNI: products of bytes to pairs in 16 bits, pairs to 32 bits, add.
__attribute__((target("avx2"))) double peak_avx2(long loops) {
  const __m256i u = _mm256_set1_epi8(3), v = _mm256_set1_epi8(2), ones = _mm256_set1_epi16(1);
  __m256i c0 = _mm256_setzero_si256(), c1 = c0, c2 = c0, c3 = c0, t0, t1, t2, t3;
  for (long i = 0; i < loops; ++i)
    asm volatile(
        "vpmaddubsw %8, %9, %4\n vpmaddubsw %8, %9, %5\n"
        "vpmaddubsw %8, %9, %6\n vpmaddubsw %8, %9, %7\n"
        "vpmaddwd %10, %4, %4\n vpmaddwd %10, %5, %5\n"
        "vpmaddwd %10, %6, %6\n vpmaddwd %10, %7, %7\n"
        "vpaddd %4, %0, %0\n vpaddd %5, %1, %1\n vpaddd %6, %2, %2\n vpaddd %7, %3, %3\n"
        : "+x"(c0), "+x"(c1), "+x"(c2), "+x"(c3), "=&x"(t0), "=&x"(t1), "=&x"(t2), "=&x"(t3)
        : "x"(v), "x"(u), "x"(ones));
  return static_cast<double>(loops) * 4 * 32;
}

std::vector<PeakRound> choose_peaks() {
  std::vector<PeakRound> rounds{peak_portable};
  if (__builtin_cpu_supports("avx2")) rounds.push_back(peak_avx2);
  if (__builtin_cpu_supports("avxvnni")) rounds.push_back(peak_avx_vnni);
  if (__builtin_cpu_supports("avx512vnni")) rounds.push_back(peak_avx512_vnni);
  return rounds;
}

#elif defined(__aarch64__)

double peak_neon(long loops) {
  int8x8_t u = vdup_n_s8(3), v = vdup_n_s8(2);
  int32x4_t sums[8] = {};
  for (long i = 0; i < loops; ++i) {
    asm volatile("" : "+w"(u), "+w"(v));
    for (int32x4_t& sum : sums) sum = vpadalq_s16(sum, vmull_s8(u, v));
  }
  for (int32x4_t& sum : sums) asm volatile("" : : "w"(sum));
  return static_cast<double>(loops) * 8 * 8;
}

#define EDGE_ASR_SDOT(n) "sdot v" n ".4s, v0.16b, v1.16b\n"
#define EDGE_ASR_SMMLA(n) "smmla v" n ".4s, v0.16b, v1.16b\n"

__attribute__((target("arch=armv8.2-a+dotprod"))) double peak_dot(long loops) {
  EDGE_ASR_PEAK_ROUND(EDGE_ASR_SDOT, 16, "v");
}

__attribute__((target("arch=armv8.2-a+i8mm"))) double peak_matrix(long loops) {
  EDGE_ASR_PEAK_ROUND(EDGE_ASR_SMMLA, 32, "v");
}

std::vector<PeakRound> choose_peaks() {
  std::vector<PeakRound> rounds{peak_neon};
  if (edge_asr::has_dot_products()) rounds.push_back(peak_dot);
  if (edge_asr::has_matrix_products()) rounds.push_back(peak_matrix);
  return rounds;
}

#else

std::vector<PeakRound> choose_peaks() { return {peak_portable}; }

#endif

}  // namespace

// Bytes per second that `threads` threads read together from a buffer of `bytes`, which should be
// several times larger than the caches. 0 where `bytes` is less than 1 MB, `threads` is not 1 to
// 64, or there are not as much memory and as many threads.
extern "C" double edge_asr_read_bandwidth(std::size_t bytes, int threads) try {
  if (bytes < (std::size_t{1} << 20) || threads < 1 || threads > 64) return 0.0;
  const std::size_t lane = bytes / static_cast<std::size_t>(threads) / kStreams / 256 * 256;
  const std::size_t slice = lane * kStreams;
  const HugeBuffer buffer(slice * static_cast<std::size_t>(threads));
  if (buffer.data() == nullptr) return 0.0;
  const ReadSlice read = choose_read();

  // All threads begin a round together. A round lasts from the first that begins to the last that
  // ends, so that a thread which had to wait for a core is not counted as fast.
  std::atomic<int> arrived{0};
  std::atomic<std::uint64_t> checksum{0};
  std::vector<double> begins(static_cast<std::size_t>(threads) * kReadRounds), ends(begins.size());
  std::atomic<bool> all_there{false}, give_up{false};
  const auto run = [&](int thread) {
    while (!all_there && !give_up) std::this_thread::yield();
    if (give_up) return;
    for (int round = 0; round < kReadRounds; ++round) {
      arrived.fetch_add(1);
      while (arrived.load() < (round + 1) * threads) std::this_thread::yield();
      const int at = round * threads + thread;
      begins[at] = seconds();
      checksum += read(buffer.data() + static_cast<std::size_t>(thread) * slice, lane);
      ends[at] = seconds();
    }
  };
  std::vector<std::thread> others;
  try {
    for (int thread = 1; thread < threads; ++thread) others.emplace_back(run, thread);
    all_there = true;
  } catch (const std::exception&) {
    give_up = true;
  }
  run(0);
  for (std::thread& other : others) other.join();
  if (give_up) return 0.0;

  double best = 0.0;
  for (int round = 0; round < kReadRounds; ++round) {
    const auto first = round * threads, last = first + threads;
    const double began = *std::min_element(begins.begin() + first, begins.begin() + last);
    const double ended = *std::max_element(ends.begin() + first, ends.begin() + last);
    const double all = static_cast<double>(slice) * threads;
    best = std::max(best, all / std::max(ended - began, 1e-9));
  }
  return best;
} catch (const std::exception&) {
  return 0.0;
}

// 8-bit multiply-adds per second of the calling thread, with the fastest instruction that this
// processor has; 0 where there is no memory.
extern "C" double edge_asr_int8_peak(void) try {
  double best = 0.0;
  for (const PeakRound round : choose_peaks()) {
    long loops = 1 << 12;
    // About 10 ms each: long enough for the clock to rise, short enough to find a quiet moment.
    for (double took = 0.0; took < 5e-3; loops *= 2) {
      const double began = seconds();
      round(loops);
      took = seconds() - began;
    }
    for (int i = 0; i < kPeakRounds; ++i) {
      const double began = seconds();
      const double done = round(loops);
      best = std::max(best, done / (seconds() - began));
    }
  }
  return best;
} catch (const std::exception&) {
  return 0.0;
}
