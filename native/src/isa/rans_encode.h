// The rANS encoder, lane by lane. Included into an anonymous namespace.

std::uint8_t* rans_encode(const EncoderTable* const* tables, const std::uint8_t* symbols, std::size_t steps,
                          std::uint16_t* states, std::uint8_t* next) {
  std::uint32_t x[kStep];  // local: bytes of the stream can't alias it
  for (std::size_t lane = 0; lane < kStep; ++lane) x[lane] = states[lane];
  for (std::size_t step = steps; step-- > 0;) {
    const EncoderTable& table = *tables[step];
#pragma GCC unroll 4
    for (std::size_t lane = kStep; lane-- > 0;) {
      const unsigned symbol = symbols[kStep * step + lane];
      const std::uint32_t freq = table.freq[symbol];
      const std::uint32_t emit = ((freq << 8) - 1 - x[lane]) >> 31;  // no branch: nothing could predict it
      next[-1] = static_cast<std::uint8_t>(x[lane]);
      next -= emit;
      const std::uint32_t kept = x[lane] >> (8 * emit);
      const std::uint32_t quotient = static_cast<std::uint32_t>(std::uint64_t{kept} * table.reciprocal[symbol] >> 24);
      const std::uint32_t rest = kept - quotient * freq;
      x[lane] = quotient << 8 | table.slot[table.start[symbol] + rest];
    }
  }
  for (std::size_t lane = 0; lane < kStep; ++lane) states[lane] = static_cast<std::uint16_t>(x[lane]);
  return next;
}
