// How many threads of ExecuTorch's pool take part in a program.
#pragma once

#include <algorithm>
#include <cstddef>
#include <limits>
#include <mutex>
#include <shared_mutex>

// The package ships the library but not these headers of it.
struct pthreadpool;
extern "C" size_t pthreadpool_get_threads_count(pthreadpool*);
extern "C" size_t pthreadpool_set_threads_count(pthreadpool*, size_t);
namespace executorch::extension::threadpool {
pthreadpool* get_pthreadpool();
}

namespace edge_asr {

// The process has one pool, as large as the library thinks right for the processor. It is never
// made anew: XNNPACK keeps a pointer to it in each loaded program. How many of its threads take
// part changes only while no program runs.
class Threads {
 public:
  using Share = std::shared_lock<std::shared_mutex>;

  // `wanted`, or as many as the pool has.
  static size_t at_most(size_t wanted) {
    std::unique_lock alone(mutex);
    const size_t all =
        pthreadpool_set_threads_count(shared_pool(), std::numeric_limits<size_t>::max());
    return std::min(wanted, all);
  }

  // While the lock lives, exactly `count` threads take part.
  static Share take(size_t count) {
    for (;;) {
      Share share(mutex);
      if (pthreadpool_get_threads_count(shared_pool()) == count) return share;
      share.unlock();
      std::unique_lock alone(mutex);
      pthreadpool_set_threads_count(shared_pool(), count);
    }
  }

 private:
  static pthreadpool* shared_pool() { return executorch::extension::threadpool::get_pthreadpool(); }

  inline static std::shared_mutex mutex;
};

}  // namespace edge_asr
