// How every path drives its rANS decoder: freely while it may read ahead, lane by lane through the last bytes of a
// block, where a load could leave it.
// Included into an anonymous namespace.

// Decodes 64 symbols. Takes no byte at or past `end`, but notes the overrun.
inline void rans_step_checked(RansStream& stream, const AliasTable& table, std::uint8_t* symbols) {
  for (std::size_t lane = 0; lane < kStep; ++lane) {
    const std::uint32_t entry = table.slot[stream.low[lane]];
    const std::uint32_t x = (entry >> 8 & 255) * stream.high[lane] + (entry >> 16);
    symbols[lane] = static_cast<std::uint8_t>(entry);
    const bool refill = x < 256, dry = refill && stream.next >= stream.end;
    stream.overrun |= dry;
    stream.low[lane] = refill && !dry ? *stream.next++ : static_cast<std::uint8_t>(x);
    stream.high[lane] = static_cast<std::uint8_t>(refill && !dry ? x : x >> 8);
  }
}

// Steps that every one of `streams` streams can take without a check: a step reads at most 64 bytes.
inline std::size_t free_steps(const RansWork* work, unsigned streams) {
  std::size_t free = ~std::size_t{0};
  for (unsigned k = 0; k < streams; ++k) {
    const RansStream& stream = *work[k].stream;
    const std::size_t here =
        stream.next < stream.readable ? static_cast<std::size_t>(stream.readable - stream.next) / kStep : 0;
    if (here < free) free = here;
  }
  return free;
}

// Runs `Steps::run<Streams>(work, from, count)` where it may read ahead, checked scalar steps elsewhere.
template <class Steps, unsigned Streams>
inline void rans_run(const RansWork* work, std::size_t steps) {
  for (std::size_t done = 0; done < steps;) {
    const std::size_t free = free_steps(work, Streams);
    const std::size_t count = free < steps - done ? free : steps - done;
    if (count != 0) {
      Steps::template run<Streams>(work, done, count);
      done += count;
      continue;
    }
    for (unsigned k = 0; k < Streams; ++k)
      rans_step_checked(*work[k].stream, *work[k].tables[done], work[k].symbols + kStep * done);
    ++done;
  }
}

template <class Steps>
void rans_decode(const RansWork* work, unsigned streams, std::size_t steps) {
  if (streams == 4) return rans_run<Steps, 4>(work, steps);
  if (streams == 3) return rans_run<Steps, 3>(work, steps);
  if (streams == 2) return rans_run<Steps, 2>(work, steps);
  return rans_run<Steps, 1>(work, steps);
}
