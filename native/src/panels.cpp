#include "regrain/panels.h"

#include <algorithm>

#include "isa/kernels.h"
#include "isa/panel_kernels.h"
#include "pool.h"
#include "scratch.h"
#include "strips.h"

namespace regrain {
namespace {

constexpr std::size_t kWorthThread = std::size_t{1} << 20;  // multiply-adds: for less, waking a thread costs more
constexpr std::size_t kTasksPerThread = 4;

std::size_t entry_bytes(PanelValue type) {  // of sixteen weights
  constexpr std::size_t kBytes[] = {64, 32, 16, 8};
  return kBytes[static_cast<std::size_t>(type)];
}

PanelWork work_of(const Panels& panels, std::size_t first, unsigned count) {
  const std::uint32_t* starts = panels.starts + (panels.shared ? 0 : first * panels.segments);
  static constexpr std::uint16_t kNone = 0;  // lists without an entry may be anywhere
  const std::uint16_t* list = panels.shared ? nullptr : panels.lists != nullptr ? panels.lists : &kNone;
  PanelWork work{{}, {}, {}, starts, list, panels.segments};
  for (unsigned p = 0; p < count; ++p) {
    const std::size_t before = panels.shared ? (first + p) * starts[panels.segments] : starts[0];
    work.values[p] = static_cast<const std::uint8_t*>(panels.values) + before * entry_bytes(panels.type);
    if (panels.scales != nullptr) work.scales[p] = panels.scales + (first + p) * panels.segments * kPanelRows;
    work.bias[p] = panels.bias + (first + p) * kPanelRows;
  }
  return work;
}

void multiply_range(const Panels& panels, std::size_t begin, std::size_t end, const Strips& strips, float* y,
                    std::size_t y_stride) {
  const PanelKernels& isa = *kernels().panels;
  const unsigned most = !panels.shared ? 1 : strips.tokens == 1 ? isa.single : isa.together;
  for (std::size_t panel = begin; panel < end;) {
    const unsigned count = end - panel >= most ? most : 1;
    const PanelWork work = work_of(panels, panel, count);
    const std::size_t row = panel * kPanelRows, rows = std::min(count * kPanelRows, panels.rows - row);
    for (std::size_t strip = 0; strip < strips.count; ++strip) {
      const std::size_t token = strips.first(strip);
      isa.multiply(panels.type, work, count, strips.packed + token * strips.rows,
                   static_cast<unsigned>(strips.first(strip + 1) - token), y + token * y_stride + row, y_stride, rows);
    }
    panel += count;
  }
}

}  // namespace

void multiply_strips(const Panels& panels, const Strips& strips, float* y, std::size_t y_stride, unsigned threads) {
  const std::size_t count = panels.panels(), groups = (count + kMostTogether - 1) / kMostTogether;
  if (threads <= 1 || panels.rows * strips.rows * strips.tokens < kWorthThread) {
    multiply_range(panels, 0, count, strips, y, y_stride);
    return;
  }
  const std::size_t tasks = std::min(groups, threads * kTasksPerThread);
  parallel_for(tasks, threads, [&](std::size_t task, unsigned) {
    const auto bound = [&](std::size_t t) { return std::min(count, groups * t / tasks * kMostTogether); };
    multiply_range(panels, bound(task), bound(task + 1), strips, y, y_stride);
  });
}

bool multiply(const Panels& panels, const float* x, std::size_t tokens, std::size_t x_stride, float* y,
              std::size_t y_stride, unsigned threads) {
  const PanelKernels& isa = *kernels().panels;
  const unsigned width = panels.shared ? isa.strip : isa.wide;
  const std::uint16_t* list = panels.shared ? panels.lists : nullptr;
  const std::size_t rows = panels.shared ? panels.starts[panels.segments] : panels.columns;
  if (tokens == 1 && list == nullptr) {
    multiply_strips(panels, {x, rows, 1, 1}, y, y_stride, threads);
    return true;
  }
  const std::size_t at_once = tokens_at_once(width, rows);
  for (std::size_t token = 0; token < tokens; token += at_once) {
    const std::size_t here = std::min(at_once, tokens - token);
    thread_local Scratch scratch;
    float* packed = scratch.of<float>(here * rows);
    if (packed == nullptr) return false;
    const Strips strips{packed, rows, here, (here + width - 1) / width};
    for (std::size_t strip = 0; strip < strips.count; ++strip) {
      const std::size_t first = strips.first(strip);
      isa.pack(x + (token + first) * x_stride, x_stride, static_cast<unsigned>(strips.first(strip + 1) - first), list,
               rows, packed + first * rows);
    }
    multiply_strips(panels, strips, y + token * y_stride, y_stride, threads);
  }
  return true;
}

}  // namespace regrain
