// Parts of a call that throw, on the calling thread and on others, while the rest still works: the
// exception must not leave before all have ended, and the pool must be of use after it.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "threads.h"

namespace {

constexpr int kThreads = 4, kRounds = 40;

int failed(const char* what, int round) {
  std::printf("round %d: %s\n", round, what);
  return 1;
}

// The parts of `throwing` throw; the others work on memory of this frame for a while.
int round_of(const std::vector<bool>& throwing, int round) {
  std::atomic<int> ended{0}, begun{0};
  std::vector<int> results(kThreads, 0);
  bool caught = false;
  try {
    edge_asr::parallel([&](int index, int parts) {
      begun++;
      while (begun < parts) std::this_thread::yield();  // all are under way when one throws
      if (throwing[index] && index % 2) throw std::bad_alloc();
      if (throwing[index]) throw std::runtime_error("part " + std::to_string(index));
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      results[index] = round;
      ended++;
    });
  } catch (const std::exception&) {
    caught = true;
  }
  int working = 0, written = 0;
  for (int i = 0; i < kThreads; i++) {
    working += !throwing[i];
    written += results[i] == round;
  }
  if (caught != (working < kThreads)) return failed("an exception was lost, or made up", round);
  if (ended != working || written != working) return failed("it did not wait for all", round);
  return 0;
}

}  // namespace

int main() {
  edge_asr::set_threads(kThreads);
  if (edge_asr::threads() != kThreads) return failed("no threads", 0);
  for (int round = 1; round <= kRounds; round++) {
    std::vector<bool> throwing(kThreads);
    for (int i = 0; i < kThreads; i++) throwing[i] = round >> i & 1;
    if (int code = round_of(throwing, round)) return code;
  }
  edge_asr::set_threads(1);
  return 0;
}
