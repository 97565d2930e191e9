// The coder without Python: every layout, width, size and kind, on every instruction set that the machine has.
#include "checks.h"
#include "reference.h"

namespace regrain::testing {
namespace {

// Whole, some ranges, and several payloads in one call.
void check_reads(const Forged& forged, const std::string& what) {
  const std::uint64_t count = forged.count();
  const unsigned bytes = forged.word_bytes;
  Buffer out;
  const Outcome whole = read(forged.payload, forged.seed, bytes, 0, count, true, out, 2);
  check(!whole && out == forged.words, what + ", whole: " + describe(whole.fault));
  if (count < 20'000) {
    const Reference reference(forged.payload, forged.seed);
    check(reference.refused == 0 && reference.words == forged.words,
          what + ", reference: rule " + std::to_string(reference.refused));
  }
  Random random{count};
  const std::uint64_t ranges[][2] = {
      {0, 0}, {count, 0}, {0, 1}, {count - 1, 1}, {count / 3, count / 2}, {random.below(count), 1}};
  bool good = true;
  for (const auto& [first, words] : ranges) {
    good &= !read(forged.payload, forged.seed, bytes, first, words, false, out);
    good &= std::equal(out.begin(), out.end(), forged.words.begin() + static_cast<std::ptrdiff_t>(first * bytes));
  }
  check(good, what + ", ranges");
}

void check_crc() {
  Buffer zeros(32, 0), ones(32, 0xFF), up, down;
  for (unsigned i = 0; i < 32; ++i) up.push_back(static_cast<std::uint8_t>(i));
  down.assign(up.rbegin(), up.rend());
  // RFC 3720, B.4
  check(crc32c(0, "123456789", 9) == 0xE3069283, "CRC of 123456789");
  check(crc32c(0, zeros.data(), 32) == 0x8A9136AA, "CRC of zeros");
  check(crc32c(0, ones.data(), 32) == 0x62A8AB43, "CRC of ones");
  check(crc32c(0, up.data(), 32) == 0x46DD794E, "CRC of ascending bytes");
  check(crc32c(0, down.data(), 32) == 0x113FDB5C, "CRC of descending bytes");
  Random random{1};
  Buffer data(5000);
  for (std::uint8_t& byte : data) byte = static_cast<std::uint8_t>(random.next());
  bool good = true;
  for (std::size_t size = 0; size < 1200; ++size) {
    std::uint32_t crc = ~0u;
    for (std::size_t i = 0; i < size; ++i) {
      crc ^= data[i + size % 7];
      for (int bit = 0; bit < 8; ++bit) crc = (crc & 1) != 0 ? 0x82F63B78u ^ crc >> 1 : crc >> 1;
    }
    good &= crc32c(0, data.data() + size % 7, size) == ~crc;
  }
  check(good, "CRC of every length");
  good = true;
  for (std::size_t cut = 0; cut < data.size(); cut += 37)
    good &= crc32c(crc32c(0, data.data(), cut), data.data() + cut, data.size() - cut) ==
            crc32c(0, data.data(), data.size());
  check(good, "CRC continued");
}

// Payloads that the encoder here would not write: every width of every layout, any alphabet, classes of any rows.
void check_forged() {
  Random random{2};
  for (const Layout& layout : kFloats)
    for (unsigned width = 0; width <= layout.mantissa_bits + 1u; ++width) {
      Head head = random_head(layout, 1, random);
      head.tables[0].raw_bits = static_cast<std::uint8_t>(width);
      random_shape(head, 150 + 3 * width, random);
      check_reads(forge(head, kSeed, random, true), name(head) + ", width " + std::to_string(width));
    }
  for (std::uint8_t bytes : {1, 2, 4, 8})
    for (std::uint8_t k = 0; k <= std::min(24, 8 * bytes - 1); ++k) {
      Head head = random_head({Family::integer, bytes, k}, k % 3, random);
      if (head.alphabet < 2) head = random_head({Family::integer, bytes, k}, 1, random);
      random_shape(head, 130 + k, random);
      check_reads(forge(head, kSeed, random, true), name(head));
    }
  for (const std::uint64_t words : {1, 2, 31, 63, 64, 65, 127, 128, 129, 1000, 4095, 4096, 4097, 4160, 9000})
    for (unsigned round = 0; round < 6; ++round) {
      const Head head = random_head(words, random);
      check_reads(forge(head, kSeed + round, random), name(head));
    }
  for (unsigned round = 0; round < 150; ++round) {
    const Head head = random_head(random.between(1, 700), random);
    check_reads(forge(head, round, random), name(head));
  }
}

// Words like weights: a bell of exponents, or of integers, of another scale in every row, some rows rounded or 0.
Buffer weights(const Layout& layout, std::uint64_t rows, std::uint64_t row_words, Random& random) {
  Buffer words;
  for (std::uint64_t row = 0; row < rows; ++row) {
    const unsigned scale = static_cast<unsigned>(random.below(5)),
                   zeros = random.one_in(3) ? static_cast<unsigned>(random.below(5)) : 0;
    const bool empty = random.one_in(20);
    for (std::uint64_t i = 0; i < row_words; ++i) {
      const std::uint64_t bits = random.next();
      const unsigned bell =
          static_cast<unsigned>(bits & 3) + (bits >> 2 & 3) + (bits >> 4 & 3) + (bits >> 6 & 3) + scale;
      std::uint64_t word = 0;
      if (layout.family == Family::integer) {
        word = std::uint64_t{0} - 40 + bell * bell + (layout.word_bytes > 1 ? bits >> 60 : 0);
      } else if (!empty) {
        const unsigned m = layout.mantissa_bits;
        const std::uint64_t mantissa = (bits >> 8 & ((std::uint64_t{1} << m) - 1)) >> zeros << zeros;
        word = (bits >> 63) << (8 * layout.word_bytes - 1) | std::uint64_t{bell + 2} << m | mantissa;
      }
      for (unsigned b = 0; b < layout.word_bytes; ++b) words.push_back(static_cast<std::uint8_t>(word >> (8 * b)));
    }
  }
  return words;
}

Buffer write(const Layout& layout, const Buffer& words, std::uint64_t row_words, unsigned threads) {
  const std::uint64_t count = words.size() / layout.word_bytes;
  Buffer payload(bound(count, layout.word_bytes));
  payload.resize(encode({words.data(), count, layout.word_bytes, layout.family, layout.mantissa_bits, row_words, kSeed},
                        payload.data(), threads));
  return payload;
}

void check_encoder(std::vector<Buffer>& payloads) {
  std::vector<Layout> layouts(std::begin(kFloats), std::end(kFloats));
  for (std::uint8_t bytes : {1, 2, 4, 8}) layouts.push_back({Family::integer, bytes, 0});
  const std::uint64_t shapes[][2] = {{1, 1},   {1, 63},  {1, 64},   {1, 65},   {1, 1000},  {300, 7},
                                     {40, 64}, {90, 70}, {60, 192}, {3, 5000}, {1, 70001}, {700, 130}};
  Random random{3};
  std::size_t at = 0;
  for (const Layout& layout : layouts)
    for (const auto& [rows, row_words] : shapes) {
      const std::string what = "weights of " + std::to_string(layout.word_bytes) + " bytes, bits " +
                               std::to_string(layout.mantissa_bits) + ", " + std::to_string(rows) + " x " +
                               std::to_string(row_words);
      Forged forged;
      forged.words = weights(layout, rows, row_words, random);
      forged.word_bytes = layout.word_bytes;
      forged.seed = kSeed;
      forged.payload = write(layout, forged.words, row_words, 1);
      check(!forged.payload.empty() && forged.payload.size() <= bound(forged.count(), layout.word_bytes),
            what + ", bound");
      check(write(layout, forged.words, row_words, 3) == forged.payload, what + ", threads");
      check_reads(forged, what);
      if (at == payloads.size()) payloads.push_back(forged.payload);
      check(payloads[at++] == forged.payload, what + ", the same bytes as from the first instruction set");
    }
  Buffer far(16, 0);
  far[5] = 1;
  check(write({Family::integer, 8, 0}, far, 0, 1).empty(), "integers over 32 bits apart must not be coded");
}

void check_jobs() {
  Random random{5};
  std::vector<Forged> forged;
  for (unsigned i = 0; i < 9; ++i) forged.push_back(forge(random_head(random.between(1, 9000), random), i, random));
  std::vector<Buffer> outs;
  for (const Forged& one : forged) outs.emplace_back(one.words.size(), 0xA5);
  std::vector<DecodeJob> jobs;
  for (std::size_t i = 0; i < forged.size(); ++i) {
    const Forged& one = forged[i];
    jobs.push_back({in_memory(one.payload), one.seed, one.word_bytes, outs[i].data(), 0, one.count(), true});
  }
  for (unsigned threads : {0u, 1u, 3u}) {
    bool good = !decode(jobs, threads);
    for (std::size_t i = 0; i < forged.size(); ++i) good &= outs[i] == forged[i].words;
    check(good, "several jobs, threads: " + std::to_string(threads));
  }
  const auto fault_of = [&](const DecodeJob& job) {
    jobs[4] = job;
    const Outcome outcome = decode(jobs, 2);
    return outcome.job == 4 && outcome.block == -1 ? outcome.fault : Fault::none;
  };
  const DecodeJob job = jobs[4];
  DecodeJob bad = job;
  bad.seed ^= 1;
  check(fault_of(bad) == Fault::head_checksum, "another tensor's seed");
  bad = job;
  bad.word_bytes = job.word_bytes == 2 ? 4 : 2;
  check(fault_of(bad) == Fault::word_bytes, "another word size");
  bad = job;
  --bad.count;
  check(fault_of(bad) == Fault::count, "another size");
  bad = job;
  bad.first = 1;
  check(fault_of(bad) == Fault::count, "a whole payload from word 1");
  bad.whole = false;
  check(fault_of(bad) == Fault::range, "a range past the end");
  bad.first = job.count + 1;
  bad.count = 0;
  check(fault_of(bad) == Fault::range, "a range behind the end");
  check(!decode({}, 2), "no jobs");
}

void check_descriptions() {
  for (unsigned fault = 0; fault <= static_cast<unsigned>(Fault::out_of_memory); ++fault)
    check(describe(static_cast<Fault>(fault)) != std::string("unknown fault"),
          "fault " + std::to_string(fault) + " described");
  check(!use_instruction_set("none such"), "an unknown instruction set");
}

}  // namespace
}  // namespace regrain::testing

int main() {
  using namespace regrain::testing;
  std::vector<Buffer> payloads;  // as the first instruction set wrote them
  check_descriptions();
  const int result = on_every_instruction_set([&] {
    check_crc();
    check_forged();
    check_encoder(payloads);
    check_jobs();
  });
  std::uint32_t crc = 0;
  for (const Buffer& payload : payloads) crc = regrain::crc32c(crc, payload.data(), payload.size());
  std::printf("CRC of what the encoder wrote, the same on every machine: %08x\n", crc);
  return result;
}
