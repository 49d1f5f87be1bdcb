#include "threads.h"

#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace edge_asr {
namespace {

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
  // Up to `count` threads, the caller's included; fewer where the system gives no more.
  explicit Pool(int count) : errors_(count) {
    workers_.reserve(count - 1);
    while (count_ < count && add_worker(count_)) count_++;
  }

  ~Pool() {
    stop_ = true;
    turn_.fetch_add(1, std::memory_order_release);
    turn_.notify_all();
    for (std::thread& worker : workers_) worker.join();
  }

  int count() const { return count_; }

  void run(const std::function<void(int, int)>& part, int most) {
    part_ = &part;
    parts_ = std::min(count_, most);
    left_.store(static_cast<uint32_t>(count_ - 1), std::memory_order_relaxed);
    turn_.fetch_add(1, std::memory_order_release);
    turn_.notify_all();
    attempt(0);
    for (uint32_t left; (left = left_.load(std::memory_order_acquire)) != 0;)
      wait_while(left_, left);
    raise_first();
  }

 private:
  bool add_worker(int index) {
    try {
      workers_.emplace_back([this, index] { work(index); });
      return true;
    } catch (const std::exception&) {  // no memory, or too many threads
      return false;
    }
  }

  void work(int index) {
    uint32_t seen = 0;
    while (true) {
      wait_while(turn_, seen);
      seen = turn_.load(std::memory_order_acquire);
      if (stop_) return;
      attempt(index);
      if (left_.fetch_sub(1, std::memory_order_acq_rel) == 1) left_.notify_all();
    }
  }

  // What a part throws is kept until no thread works on the call any more.
  void attempt(int index) noexcept {
    if (index >= parts_) return;
    try {
      (*part_)(index, parts_);
    } catch (...) {
      errors_[index] = std::current_exception();
    }
  }

  void raise_first() {
    std::exception_ptr first;
    for (std::exception_ptr& error : errors_) {
      if (!error) continue;
      if (!first) first = error;
      error = nullptr;
    }
    if (first) std::rethrow_exception(first);
  }

  int count_ = 1, parts_ = 1;
  const std::function<void(int, int)>* part_ = nullptr;
  std::atomic<uint32_t> turn_{0}, left_{0};
  std::atomic<bool> stop_{false};
  std::vector<std::exception_ptr> errors_;  // of each part
  std::vector<std::thread> workers_;
};

std::mutex busy;       // whoever holds it uses the pool
Pool* pool = nullptr;  // not destroyed at the end of the process: its threads may still sleep
std::atomic<int> current{1};  // threads that there are
int to_remake = 0;            // threads that a forked process is to have; 0 where it has them

// Needs `busy`.
void make_pool(int count) {
  to_remake = 0;
  current = 1;
  delete std::exchange(pool, nullptr);
  if (count == 1) return;
  pool = new Pool(count);
  current = pool->count();
}

// A forked process has this thread alone. The lock is held over the fork, so that no call is under
// way then; and the pool, whose threads cannot be joined, is given up and made again by the first
// call that wants it.
void before_fork() { busy.lock(); }
void after_fork_in_parent() { busy.unlock(); }
void after_fork_in_child() {
  if (std::exchange(pool, nullptr)) to_remake = current;
  busy.unlock();
}
[[maybe_unused]] const int handlers =
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);

}  // namespace

void set_threads(int count) {
  count = count < 1 ? 1 : count > kMaxThreads ? kMaxThreads : count;
  std::lock_guard<std::mutex> lock(busy);
  if (count != current) make_pool(count);
}

int threads() { return current; }

void parallel(const std::function<void(int, int)>& part, int most) {
  std::unique_lock<std::mutex> lock(busy, std::try_to_lock);
  if (lock.owns_lock() && to_remake) make_pool(to_remake);
  if (!lock.owns_lock() || !pool) {
    part(0, 1);
    return;
  }
  pool->run(part, most);
}

}  // namespace edge_asr
