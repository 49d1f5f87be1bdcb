// What each thread has one of.
#pragma once

#include <pthread.h>

#include <memory>
#include <new>

namespace edge_asr {

// One T for each thread that asks for it, until that thread ends. Never destroyed itself. Where
// there is no memory it throws std::bad_alloc; over a thread_local the C library would end the
// process.
template <class T>
class PerThread {
 public:
  PerThread() {
    if (pthread_key_create(&key_, [](void* one) { delete static_cast<T*>(one); }) != 0)
      throw std::bad_alloc();
  }
  PerThread(const PerThread&) = delete;
  PerThread& operator=(const PerThread&) = delete;

  T& get() {
    if (void* one = pthread_getspecific(key_)) return *static_cast<T*>(one);
    auto made = std::make_unique<T>();
    if (pthread_setspecific(key_, made.get()) != 0) throw std::bad_alloc();
    return *made.release();
  }

 private:
  pthread_key_t key_{};
};

}  // namespace edge_asr
