#include "regrain/skipping.h"

#include <algorithm>
#include <atomic>

#include "isa/kernels.h"
#include "isa/skip_kernels.h"
#include "pool.h"
#include "scratch.h"

namespace regrain {
namespace {

constexpr std::size_t kWorthThread = std::size_t{1} << 20;  // bytes of weights: for less, waking a thread costs more
constexpr std::size_t kTileRows = 4096;                     // their sums for two tokens stay in the first-level cache

// The last group of a list is filled up with a column that is there anyway, times 0.
void fill_up(SkipChoice& choice, unsigned tokens) {
  for (; choice.count % kSkipGroup != 0; ++choice.count) {
    choice.list[choice.count] = choice.list[choice.count - 1];
    for (unsigned n = 0; n < tokens; ++n) choice.factors[n * choice.plane + choice.count] = 0.0f;
  }
}

// Rows `begin` to `end`, of which the first is the first of a line.
bool multiply_rows(const Skipping& skipping, const SkipChoice& choice, unsigned tokens, std::size_t begin,
                   std::size_t end, float* y, std::size_t y_stride) {
  thread_local Scratch scratch;
  const std::size_t line = kSkipLine / skipping.item(), first = begin / line, last = (end + line - 1) / line;
  const std::size_t size = (last - first) * line;
  float* sums = scratch.of<float>(tokens * size);
  if (sums == nullptr) return false;
  std::fill_n(sums, tokens * size, 0.0f);
  kernels().skipping->add(skipping, tokens, choice, skipping.values + first * kSkipLine, last - first, sums);
  for (unsigned n = 0; n < tokens; ++n) {
    const float *from = sums + n * size, *bias = skipping.bias + begin;
    float* to = y + n * y_stride + begin;
    if (skipping.scales != nullptr)
      for (std::size_t r = 0; r < end - begin; ++r) to[r] = bias[r] + from[r] * skipping.scales[begin + r];
    else
      for (std::size_t r = 0; r < end - begin; ++r) to[r] = bias[r] + from[r];
  }
  return true;
}

bool multiply_tiles(const Skipping& skipping, const SkipChoice& choice, unsigned tokens, float* y, std::size_t y_stride,
                    unsigned threads) {
  const bool alone = threads <= 1 || choice.count * skipping.rows * skipping.item() < kWorthThread;
  const std::size_t share = alone ? kTileRows : (skipping.rows + threads - 1) / threads;
  const std::size_t rows = std::min(kTileRows, (share + kSkipLine - 1) / kSkipLine * kSkipLine);
  std::atomic<bool> done = true;
  const auto tile = [&](std::size_t task, unsigned) {
    const std::size_t begin = task * rows, end = std::min(begin + rows, skipping.rows);
    if (!multiply_rows(skipping, choice, tokens, begin, end, y, y_stride)) done = false;
  };
  const std::size_t tasks = (skipping.rows + rows - 1) / rows;
  if (alone)
    for (std::size_t task = 0; task < tasks; ++task) tile(task, 0);
  else parallel_for(tasks, threads, tile);
  return done;
}

}  // namespace

std::int64_t multiply(const Skipping& skipping, const float* x, std::size_t tokens, std::size_t x_stride, float* y,
                      std::size_t y_stride, unsigned threads) {
  thread_local Scratch lists, factors;
  const SkipKernels& isa = *kernels().skipping;
  const std::size_t plane = skipping.columns + kSkipGroup;
  SkipChoice choice = {lists.of<std::uint32_t>(plane), factors.of<float>(kSkipTokens * plane), plane, 0, 0};
  if (choice.list == nullptr || choice.factors == nullptr) return -1;
  std::int64_t kept = 0;
  for (std::size_t token = 0; token < tokens; token += kSkipTokens) {
    const unsigned here = tokens - token >= kSkipTokens ? kSkipTokens : 1;
    isa.choose(skipping, here, x + token * x_stride, x_stride, choice);
    fill_up(choice, here);
    if (!multiply_tiles(skipping, choice, here, y + token * y_stride, y_stride, threads)) return -1;
    kept += static_cast<std::int64_t>(choice.kept);
  }
  return kept;
}

}  // namespace regrain
