#include "threads.h"

#include <atomic>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace edge_asr {
namespace {

constexpr int kMaxThreads = 64;
constexpr int kSpins = 2000;  // some tens of microseconds; then sleep, as between two chunks

void pause() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

void wait_while(const std::atomic<uint32_t>& value, uint32_t old) {
  for (int i = 0; i < kSpins; i++) {
    if (value.load(std::memory_order_acquire) != old) return;
    pause();
  }
  while (value.load(std::memory_order_acquire) == old) value.wait(old, std::memory_order_acquire);
}

class Pool {
 public:
  explicit Pool(int count) : count_(count) {
    for (int i = 1; i < count; i++) workers_.emplace_back([this, i] { work(i); });
  }

  ~Pool() {
    stop_ = true;
    turn_.fetch_add(1, std::memory_order_release);
    turn_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  int count() const { return count_; }

  void run(const std::function<void(int, int)>& part) {
    part_ = &part;
    left_.store(static_cast<uint32_t>(count_ - 1), std::memory_order_relaxed);
    turn_.fetch_add(1, std::memory_order_release);
    turn_.notify_all();
    part(0, count_);
    for (uint32_t left; (left = left_.load(std::memory_order_acquire)) != 0;)
      wait_while(left_, left);
  }

 private:
  void work(int index) {
    uint32_t seen = 0;
    while (true) {
      wait_while(turn_, seen);
      seen = turn_.load(std::memory_order_acquire);
      if (stop_) return;
      (*part_)(index, count_);
      if (left_.fetch_sub(1, std::memory_order_acq_rel) == 1) left_.notify_all();
    }
  }

  const int count_;
  const std::function<void(int, int)>* part_ = nullptr;
  std::atomic<uint32_t> turn_{0}, left_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::thread> workers_;
};

std::mutex busy;  // whoever holds it uses the pool
std::unique_ptr<Pool>& pool() {
  static auto* one = new std::unique_ptr<Pool>;  // never destroyed: its threads may still sleep
  return *one;
}
std::atomic<int> wanted{1};

}  // namespace

void set_threads(int count) {
  count = count < 1 ? 1 : count > kMaxThreads ? kMaxThreads : count;
  std::lock_guard<std::mutex> lock(busy);
  if (count == wanted) return;
  wanted = count;
  pool().reset(count > 1 ? new Pool(count) : nullptr);
}

int threads() { return wanted; }

void parallel(const std::function<void(int, int)>& part) {
  std::unique_lock<std::mutex> lock(busy, std::try_to_lock);
  if (!lock.owns_lock() || !pool()) {
    part(0, 1);
    return;
  }
  pool()->run(part);
}

}  // namespace edge_asr
