// A good scalar rANS to compare with: 16 symbols, probabilities of 12 bits, one table look-up a symbol, 32-bit states
// that are renormalized by 16-bit words, 8 of them interleaved so that their latencies overlap.
// After F. Giesen, "Interleaved entropy coders", arXiv:1402.3392, and his rans_word of ryg_rans.
#include <cstddef>
#include <cstdint>

namespace {

constexpr unsigned kBits = 12;
constexpr unsigned kLanes = 8;
constexpr std::uint32_t kLow = 1u << 16;

struct Slot {
  std::uint16_t freq, bias;
  std::uint8_t symbol;
};

}  // namespace

// count must be a multiple of 8. Writes 16-bit words downwards from `end`; returns where they start, states first.
extern "C" std::uint16_t* scalar_encode(const std::uint8_t* symbols, std::size_t count, const std::uint32_t* freq,
                                        std::uint16_t* end) {
  std::uint32_t first[16], state[kLanes], sum = 0;
  for (unsigned s = 0; s < 16; ++s) {
    first[s] = sum;
    sum += freq[s];
  }
  for (auto& x : state) x = kLow;
  for (std::size_t i = count; i-- > 0;) {
    const unsigned s = symbols[i];
    std::uint32_t& x = state[i % kLanes];
    if (x >= freq[s] << (32 - kBits)) {
      *--end = static_cast<std::uint16_t>(x);
      x >>= 16;
    }
    x = (x / freq[s] << kBits) + x % freq[s] + first[s];
  }
  for (unsigned lane = kLanes; lane-- > 0;) {
    *--end = static_cast<std::uint16_t>(state[lane]);
    *--end = static_cast<std::uint16_t>(state[lane] >> 16);
  }
  return end;
}

extern "C" void scalar_decode(const std::uint16_t* in, std::size_t count, const std::uint32_t* freq,
                              std::uint8_t* symbols) {
  static Slot table[1u << kBits];
  std::uint32_t slot = 0, state[kLanes];
  for (unsigned s = 0; s < 16; ++s)
    for (std::uint32_t bias = 0; bias < freq[s]; ++bias)
      table[slot++] = {static_cast<std::uint16_t>(freq[s]), static_cast<std::uint16_t>(bias),
                       static_cast<std::uint8_t>(s)};
  for (auto& x : state) {
    x = static_cast<std::uint32_t>(in[0]) << 16 | in[1];
    in += 2;
  }
  for (std::size_t i = 0; i < count; i += kLanes) {
    for (unsigned lane = 0; lane < kLanes; ++lane) {
      std::uint32_t x = state[lane];
      const Slot found = table[x & ((1u << kBits) - 1)];
      symbols[i + lane] = found.symbol;
      x = found.freq * (x >> kBits) + found.bias;
      const bool low = x < kLow;  // no branch: it would be mispredicted
      const std::uint32_t next = x << 16 | *in;
      state[lane] = low ? next : x;
      in += low;
    }
  }
}
