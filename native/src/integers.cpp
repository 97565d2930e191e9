#include "regrain/integers.h"

#include <algorithm>

#include "isa/integer_kernels.h"
#include "isa/kernels.h"
#include "pool.h"
#include "scratch.h"

namespace regrain {
namespace {

constexpr std::size_t kWorthThread = std::size_t{1} << 22;  // multiply-adds: for less, waking a thread costs more
constexpr std::size_t kPackedBytes = std::size_t{1} << 20;  // of quantized tokens at once: they and some panels stay in L2
constexpr std::size_t kTasksPerThread = 4;
constexpr std::size_t kLine = 64, kBlockBytes = kBlockRows * kBlockColumns;

std::size_t whole_lines(std::size_t bytes) { return (bytes + kLine - 1) / kLine * kLine; }

IntegerWork work_of(const Integers& integers, std::size_t first, unsigned count) {
  IntegerWork work{};
  work.blocks = integers.groups();
  std::size_t before = first * work.blocks;
  if (integers.starts != nullptr) {
    before = integers.starts[first];
    work.blocks = integers.starts[first + 1] - before;
    work.list = integers.lists + before;
  }
  for (unsigned p = 0; p < count; ++p) {
    const std::size_t row = (first + p) * kBlockRows;
    work.values[p] = integers.values + (before + p * work.blocks) * kBlockBytes;
    work.sums[p] = integers.sums + row;
    work.scales[p] = integers.scales + row;
    work.bias[p] = integers.bias + row;
  }
  return work;
}

// Quantized tokens in strips that differ by one token at most.
struct Strips {
  const std::uint8_t* packed;
  const TokenScale* scales;
  std::size_t bytes, tokens, count;  // bytes from one strip to the next

  std::size_t first(std::size_t strip) const { return tokens * strip / count; }
};

void multiply_range(const Integers& integers, std::size_t begin, std::size_t end, const Strips& strips, float* y,
                    std::size_t y_stride) {
  const IntegerKernels& isa = *kernels().integers;
  const unsigned most = integers.starts != nullptr ? 1 : strips.tokens == 1 ? isa.single : isa.together;
  for (std::size_t panel = begin; panel < end;) {
    const unsigned count = end - panel >= most ? most : 1;
    const IntegerWork work = work_of(integers, panel, count);
    const std::size_t row = panel * kBlockRows, rows = std::min(count * kBlockRows, integers.rows - row);
    for (std::size_t strip = 0; strip < strips.count; ++strip) {
      const std::size_t token = strips.first(strip);
      isa.multiply(work, count, strips.packed + strip * strips.bytes, strips.scales + token,
                   static_cast<unsigned>(strips.first(strip + 1) - token), y + token * y_stride + row, y_stride, rows);
    }
    panel += count;
  }
}

void multiply_strips(const Integers& integers, const Strips& strips, float* y, std::size_t y_stride, unsigned threads) {
  const std::size_t count = integers.panels(), groups = (count + kMostBlocks - 1) / kMostBlocks;
  if (threads <= 1 || integers.rows * integers.inputs * strips.tokens < kWorthThread) {
    multiply_range(integers, 0, count, strips, y, y_stride);
    return;
  }
  const std::size_t tasks = std::min(groups, threads * kTasksPerThread);
  parallel_for(tasks, threads, [&](std::size_t task, unsigned) {
    const auto bound = [&](std::size_t t) { return std::min(count, groups * t / tasks * kMostBlocks); };
    multiply_range(integers, bound(task), bound(task + 1), strips, y, y_stride);
  });
}

}  // namespace

bool multiply(const Integers& integers, const float* x, std::size_t tokens, std::size_t x_stride, float* y,
              std::size_t y_stride, unsigned threads) {
  if (tokens == 0) return true;
  const IntegerKernels& isa = *kernels().integers;
  const unsigned width = integers.starts != nullptr ? isa.wide : isa.strip;
  const std::size_t inputs = integers.inputs, widest = std::min<std::size_t>(tokens, width);
  const std::size_t wide = widest == 1 ? 1 : (widest + kTokenGroup - 1) / kTokenGroup * kTokenGroup;
  const std::size_t strip_bytes = whole_lines(integers.groups() * wide * isa.bytes);
  const std::size_t gathered_bytes = integers.gathered != nullptr ? whole_lines((width * inputs + 15) * sizeof(float)) : 0;
  const std::size_t most = std::max<std::size_t>(1, kPackedBytes / std::max<std::size_t>(1, strip_bytes)) * width;
  const std::size_t passes = (tokens + most - 1) / most, at_once = (tokens + passes - 1) / passes;
  const std::size_t strips_at_once = (at_once + width - 1) / width;
  thread_local Scratch scratch;
  std::uint8_t* packed = scratch.of<std::uint8_t>(strips_at_once * strip_bytes + whole_lines(at_once * sizeof(TokenScale)) + gathered_bytes);
  if (packed == nullptr) return false;
  auto* scales = reinterpret_cast<TokenScale*>(packed + strips_at_once * strip_bytes);
  auto* chosen = reinterpret_cast<float*>(packed + strips_at_once * strip_bytes + whole_lines(at_once * sizeof(TokenScale)));
  for (std::size_t token = 0; token < tokens; token += at_once) {
    const std::size_t here = std::min(at_once, tokens - token);
    const Strips strips{packed, scales, strip_bytes, here, (here + width - 1) / width};
    for (std::size_t strip = 0; strip < strips.count; ++strip) {
      const std::size_t first = strips.first(strip), count = strips.first(strip + 1) - first;
      const float* from = x + (token + first) * x_stride;
      std::size_t stride = x_stride;
      if (integers.gathered != nullptr) {
        const Chosen columns{integers.gathered, integers.masks, inputs, integers.columns};
        for (std::size_t n = 0; n < count; ++n) isa.choose(from + n * x_stride, columns, chosen + n * inputs);
        from = chosen;
        stride = inputs;
      }
      isa.quantize(from, stride, static_cast<unsigned>(count), inputs, packed + strip * strip_bytes, scales + first);
    }
    multiply_strips(integers, strips, y + token * y_stride, y_stride, threads);
  }
  return true;
}

}  // namespace regrain
