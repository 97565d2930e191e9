#include "cost.h"

#include <algorithm>

namespace regrain {

const std::array<std::uint32_t, 257> kLog2 = {
    0, 0, 65536, 103872, 131072, 152170, 169408, 183983, 196608, 207744, 217706, 226717,
    234944, 242512, 249519, 256042, 262144, 267876, 273280, 278392, 283242, 287855, 292253, 296456,
    300480, 304340, 308048, 311616, 315055, 318373, 321578, 324678, 327680, 330589, 333412, 336153,
    338816, 341407, 343928, 346384, 348778, 351113, 353391, 355616, 357789, 359914, 361992, 364026,
    366016, 367966, 369876, 371748, 373584, 375385, 377152, 378887, 380591, 382264, 383909, 385525,
    387114, 388677, 390214, 391727, 393216, 394682, 396125, 397547, 398948, 400328, 401689, 403030,
    404352, 405656, 406943, 408212, 409464, 410700, 411920, 413125, 414314, 415488, 416649, 417795,
    418927, 420046, 421152, 422245, 423325, 424394, 425450, 426495, 427528, 428550, 429562, 430562,
    431552, 432532, 433502, 434462, 435412, 436353, 437284, 438206, 439120, 440025, 440921, 441809,
    442688, 443560, 444423, 445279, 446127, 446967, 447800, 448626, 449445, 450256, 451061, 451859,
    452650, 453435, 454213, 454985, 455750, 456510, 457263, 458010, 458752, 459488, 460218, 460942,
    461661, 462375, 463083, 463786, 464484, 465177, 465864, 466547, 467225, 467898, 468566, 469229,
    469888, 470543, 471192, 471838, 472479, 473115, 473748, 474376, 475000, 475620, 476236, 476848,
    477456, 478060, 478661, 479257, 479850, 480439, 481024, 481606, 482185, 482759, 483331, 483898,
    484463, 485024, 485582, 486136, 486688, 487236, 487781, 488323, 488861, 489397, 489930, 490459,
    490986, 491510, 492031, 492549, 493064, 493577, 494086, 494593, 495098, 495599, 496098, 496594,
    497088, 497579, 498068, 498554, 499038, 499519, 499998, 500474, 500948, 501419, 501889, 502355,
    502820, 503282, 503742, 504200, 504656, 505109, 505561, 506010, 506457, 506902, 507345, 507786,
    508224, 508661, 509096, 509528, 509959, 510388, 510815, 511240, 511663, 512084, 512503, 512921,
    513336, 513750, 514162, 514572, 514981, 515387, 515792, 516195, 516597, 516997, 517395, 517791,
    518186, 518579, 518971, 519361, 519749, 520136, 520521, 520904, 521286, 521667, 522046, 522423,
    522799, 523173, 523546, 523918, 524288,
};

void normalize(const Counts& counts, std::uint8_t (&freq)[kSymbols]) {
  std::uint64_t total = 0;
  unsigned present = 0, only = 0;
  for (unsigned s = 0; s < kSymbols; ++s) {
    freq[s] = 0;
    total += counts[s];
    if (counts[s] != 0) {
      ++present;
      only = s;
    }
  }
  if (present <= 1) {  // a frequency is a byte: a lone symbol leaves one slot to another
    freq[only] = 255;
    freq[only == 0 ? 1 : 0] = 1;
    return;
  }
  unsigned sum = 0;
  for (unsigned s = 0; s < kSymbols; ++s) {
    if (counts[s] == 0) continue;
    const std::uint64_t share = 256 * counts[s] / total;
    freq[s] = static_cast<std::uint8_t>(share < 1 ? 1 : share > 255 ? 255 : share);
    sum += freq[s];
  }
  for (; sum > 256; --sum) {
    unsigned best = kSymbols;
    std::uint64_t least = 0;
    for (unsigned s = 0; s < kSymbols; ++s) {
      if (freq[s] <= 1) continue;
      const std::uint64_t cost = counts[s] * (kLog2[freq[s]] - kLog2[freq[s] - 1u]);
      if (best == kSymbols || cost < least) best = s, least = cost;
    }
    --freq[best];
  }
  for (; sum < 256; ++sum) {
    unsigned best = kSymbols;
    std::uint64_t most = 0;
    for (unsigned s = 0; s < kSymbols; ++s) {
      if (freq[s] == 0 || freq[s] == 255) continue;
      const std::uint64_t gain = counts[s] * (kLog2[freq[s] + 1u] - kLog2[freq[s]]);
      if (best == kSymbols || gain > most) best = s, most = gain;
    }
    ++freq[best];
  }
}

Costs symbol_costs(const std::uint8_t (&freq)[kSymbols], bool escape) {
  constexpr std::uint32_t kByte = 8u << 16, kNever = 24u << 16;
  const std::uint32_t by_escape = escape && freq[15] != 0 ? kLog2[256] - kLog2[freq[15]] + kByte : kNever;
  Costs costs;
  for (unsigned s = 0; s < kSymbols; ++s) costs[s] = freq[s] == 0 ? by_escape : kLog2[256] - kLog2[freq[s]];
  if (escape) costs[15] = by_escape;
  return costs;
}

std::uint64_t fit_table(const Counts& counts, bool escape, std::uint8_t (&freq)[kSymbols]) {
  const auto price = [&](const std::uint8_t (&table)[kSymbols]) {
    const Costs costs = symbol_costs(table, escape);
    std::uint64_t bits = 0;
    for (unsigned s = 0; s < kSymbols; ++s) bits += counts[s] * costs[s];
    return bits;
  };
  normalize(counts, freq);
  std::uint64_t best = price(freq);
  if (!escape) return best;
  // give the rarest symbols to the escape, one after the other; the first few alone may not pay
  Counts kept = counts;
  for (unsigned in_vain = 0; in_vain < 3;) {
    unsigned rarest = kSymbols;
    for (unsigned s = 0; s < 15; ++s)
      if (kept[s] != 0 && (rarest == kSymbols || kept[s] <= kept[rarest])) rarest = s;
    if (rarest == kSymbols) break;
    kept[15] += kept[rarest];
    kept[rarest] = 0;
    std::uint8_t table[kSymbols];
    normalize(kept, table);
    const std::uint64_t bits = price(table);
    if (bits < best) {
      best = bits;
      std::copy_n(table, kSymbols, freq);
      in_vain = 0;
    } else {
      ++in_vain;
    }
  }
  return best;
}

}  // namespace regrain
