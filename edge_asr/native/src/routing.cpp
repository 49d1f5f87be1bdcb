#include "routing.h"

#include <algorithm>
#include <numeric>

#include "threads.h"

namespace edge_asr {
namespace {

// The k largest of `logits` among the allowed experts, best first, and the softmax over them.
// Returns how many there are.
int choose(const Kernel& kernel, const float* logits, const std::vector<char>& allowed, int k,
           float min_weight, int* chosen, float* gates) {
  const int experts = static_cast<int>(allowed.size());
  int count = 0;
  uint64_t taken = 0;
  for (; count < k; count++) {
    int best = -1;
    for (int expert = 0; expert < experts; expert++) {
      if (!allowed[static_cast<size_t>(expert)] || (taken >> expert & 1)) continue;
      if (best < 0 || logits[expert] > logits[best]) best = expert;
    }
    if (best < 0) break;
    taken |= uint64_t{1} << best;
    chosen[count] = best;
    gates[count] = logits[best];
  }
  kernel.softmax(gates, count);
  if (min_weight > 0.0f) {
    int kept = 1;
    float total = gates[0];
    while (kept < count && gates[kept] >= min_weight) total += gates[kept++];
    for (int i = 0; i < kept; i++) gates[i] /= total;
    count = kept;
  }
  return count;
}

// Only the `most` experts whose gates have the largest sums.
std::vector<char> busiest(const std::vector<float>& total, int most) {
  std::vector<int> order(total.size());
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
    return total[static_cast<size_t>(a)] > total[static_cast<size_t>(b)];
  });
  std::vector<char> allowed(total.size(), 0);
  for (int i = 0; i < most; i++) allowed[static_cast<size_t>(order[static_cast<size_t>(i)])] = 1;
  return allowed;
}

}  // namespace

void choose_experts(const Kernel& kernel, const Layer& layer, const Levers& levers, const float* x,
                    int rows, Routing& routing) {
  const int experts = layer.experts;
  const int wanted = levers.top_k;
  const int k = wanted > 0 ? std::min(wanted, layer.top_k) : layer.top_k;
  const float min_weight = levers.min_weight;
  const int max_experts = levers.max_experts;
  const size_t pairs = static_cast<size_t>(rows) * static_cast<size_t>(k);

  static thread_local std::vector<float> logits, gates;
  static thread_local std::vector<int> chosen, count;
  logits.resize(static_cast<size_t>(rows) * static_cast<size_t>(experts));
  gates.resize(pairs);
  chosen.resize(pairs);
  count.resize(static_cast<size_t>(rows));
  // The other threads have vectors of their own.
  float *logits_at = logits.data(), *gates_at = gates.data();
  int *chosen_at = chosen.data(), *count_at = count.data();

  parallel([&](int index, int parts) {
    for (int row = rows * index / parts; row < rows * (index + 1) / parts; row++)
      kernel.route(x + static_cast<size_t>(row) * static_cast<size_t>(layer.in), layer.router,
                   layer.in, experts, logits_at + row * experts);
  });
  std::vector<char> allowed(static_cast<size_t>(experts), 1);
  auto choose_all = [&] {
    for (int row = 0; row < rows; row++)
      count_at[row] = choose(kernel, logits_at + row * experts, allowed, k, min_weight,
                             chosen_at + row * k, gates_at + row * k);
  };
  choose_all();
  if (max_experts > 0 && max_experts < experts) {
    std::vector<float> total(static_cast<size_t>(experts), 0.0f);
    for (int row = 0; row < rows; row++)
      for (int i = 0; i < count_at[row]; i++)
        total[static_cast<size_t>(chosen_at[row * k + i])] += gates_at[row * k + i];
    allowed = busiest(total, max_experts);
    choose_all();
  }

  routing.begin.assign(static_cast<size_t>(experts) + 1, 0);
  for (int row = 0; row < rows; row++)
    for (int i = 0; i < count_at[row]; i++)
      routing.begin[static_cast<size_t>(chosen_at[row * k + i]) + 1]++;
  routing.touched = 0;
  for (size_t expert = 0; expert < static_cast<size_t>(experts); expert++) {
    routing.touched += routing.begin[expert + 1] > 0;
    routing.begin[expert + 1] += routing.begin[expert];
  }
  std::vector<int> next(routing.begin.begin(), routing.begin.end() - 1);
  routing.row.resize(static_cast<size_t>(routing.begin.back()));
  routing.gate.resize(routing.row.size());
  for (int row = 0; row < rows; row++)
    for (int i = 0; i < count_at[row]; i++) {
      const size_t at = static_cast<size_t>(next[static_cast<size_t>(chosen_at[row * k + i])]++);
      routing.row[at] = row;
      routing.gate[at] = gates_at[row * k + i];
    }
}

}  // namespace edge_asr
