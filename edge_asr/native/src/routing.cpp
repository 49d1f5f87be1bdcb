#include "routing.h"

#include <algorithm>
#include <numeric>

#include "gemm.h"
#include "per_thread.h"

namespace edge_asr {
namespace {

struct Scratch {
  std::vector<float> logits, gate;
  std::vector<int> chosen, count;
};

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
      if (!allowed[expert] || (taken >> expert & 1)) continue;
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
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return total[a] > total[b]; });
  std::vector<char> allowed(total.size(), 0);
  for (int i = 0; i < most; i++) allowed[order[i]] = 1;
  return allowed;
}

// The chosen experts of all rows, in memory that is used again.
struct Choices {
  int k;              // at most so many for a row
  const int* chosen;  // (rows, k)
  const float* gate;  // (rows, k)
  const int* count;   // (rows,)
};

std::vector<float> summed_gates(const Choices& choices, int rows, int experts) {
  std::vector<float> total(experts, 0.0f);
  for (int row = 0; row < rows; row++)
    for (int i = 0; i < choices.count[row]; i++) {
      const int64_t pair = at(row, choices.k) + i;
      total[choices.chosen[pair]] += choices.gate[pair];
    }
  return total;
}

void sort_by_expert(const Choices& choices, int rows, int experts, Routing& routing) {
  routing.begin.assign(experts + 1, 0);
  for (int row = 0; row < rows; row++)
    for (int i = 0; i < choices.count[row]; i++)
      routing.begin[choices.chosen[at(row, choices.k) + i] + 1]++;
  routing.touched = 0;
  for (int expert = 0; expert < experts; expert++) {
    routing.touched += routing.begin[expert + 1] > 0;
    routing.begin[expert + 1] += routing.begin[expert];
  }
  std::vector<int> next(routing.begin.begin(), routing.begin.end() - 1);
  routing.row.resize(routing.begin.back());
  routing.gate.resize(routing.row.size());
  for (int row = 0; row < rows; row++)
    for (int i = 0; i < choices.count[row]; i++) {
      const int64_t pair = at(row, choices.k) + i;
      const int place = next[choices.chosen[pair]]++;
      routing.row[place] = row;
      routing.gate[place] = choices.gate[pair];
    }
}

}  // namespace

void choose_experts(const Kernel& kernel, const Layer& layer, const Levers& levers, const float* x,
                    int rows, Routing& routing) {
  const int experts = layer.experts;
  const int wanted = levers.top_k;
  const int k = wanted > 0 ? std::min(wanted, layer.top_k) : layer.top_k;
  const float min_weight = levers.min_weight;
  const int max_experts = levers.max_experts;

  static PerThread<Scratch> scratches;
  Scratch& s = scratches.get();
  s.logits.resize(at(rows, experts));
  s.gate.resize(at(rows, k));
  s.chosen.resize(at(rows, k));
  s.count.resize(rows);
  float *logits = s.logits.data(), *gate = s.gate.data();
  int *chosen = s.chosen.data(), *count = s.count.data();

  for_each(rows, [&](int64_t row) {
    kernel.route(x + at(row, layer.in), layer.router, layer.in, experts, logits + at(row, experts));
  });
  std::vector<char> allowed(experts, 1);
  auto choose_all = [&] {
    for (int row = 0; row < rows; row++)
      count[row] = choose(kernel, logits + at(row, experts), allowed, k, min_weight,
                          chosen + at(row, k), gate + at(row, k));
  };
  choose_all();
  const Choices choices = {.k = k, .chosen = chosen, .gate = gate, .count = count};
  if (max_experts > 0 && max_experts < experts) {
    allowed = busiest(summed_gates(choices, rows, experts), max_experts);
    choose_all();
  }
  sort_by_expert(choices, rows, experts, routing);
}

}  // namespace edge_asr
