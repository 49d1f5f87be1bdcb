// The threads of the kernels: one small pool for the process.
#pragma once

#include <functional>

namespace edge_asr {

// At most so many threads, this one included, work on one call from now on.
void set_threads(int count);
int threads();

// Calls `part(i, n)` for every i in 0..n-1, on up to `threads()` threads, and waits for all. A call
// from a second thread while the pool is busy runs on that thread alone. Results must not depend
// on n. `part` must not throw.
void parallel(const std::function<void(int, int)>& part);

}  // namespace edge_asr
