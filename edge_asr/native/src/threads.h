// The threads of the kernels: one small pool for the process.
#pragma once

#include <functional>

namespace edge_asr {

constexpr int kMaxThreads = 64;

// At most so many threads, this one included, work on one call from now on; fewer where the system
// gives no more, which `threads` says. A forked process gets threads of its own.
void set_threads(int count);
int threads();

// Calls `part(i, n)` for every i in 0..n-1, on n threads, at most `most` and `threads()`, and waits
// for all. A call from a second thread while the pool is busy runs on that thread alone. Results
// must not depend on n. If parts throw, one of their exceptions is thrown once all have ended. They
// should not even allocate: in a new thread the first use of an exception, or of a thread_local,
// takes memory, and without it the C library ends the process.
void parallel(const std::function<void(int, int)>& part, int most = kMaxThreads);

}  // namespace edge_asr
