// Decoding whole jobs: heads first, then all their blocks, several in lockstep on each thread.
#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <new>
#include <utility>

#include "block.h"
#include "pool.h"
#include "source.h"

namespace regrain {
namespace {

constexpr unsigned kMaxLockstep = 4;

struct OpenJob {
  DecodeJob job;
  OpenPayload payload;
  std::uint64_t first_block = 0, last_block = 0;  // [first, last)
  std::uint64_t first_task = 0;                   // number of its first block among all jobs'
};

// The first fault in the order of jobs and blocks, whatever the order of the threads.
class FaultLog {
 public:
  void add(const Outcome& outcome) {
    std::lock_guard lock(mutex_);
    const auto place = [](const Outcome& o) { return std::pair(o.job, o.block); };
    if (!first_ || place(outcome) < place(first_)) first_ = outcome;
  }
  Outcome first() const { return first_; }

 private:
  std::mutex mutex_;
  Outcome first_;
};

Fault open_job(OpenJob& open) {
  const DecodeJob& job = open.job;
  Head& head = open.payload.head;
  if (const Fault fault = read_head(job.payload, job.seed, head); fault != Fault::none) return fault;
  if (head.word_bytes != job.word_bytes) return Fault::word_bytes;
  if (job.grid != nullptr && head.family != Family::integer) return Fault::family;
  if (job.whole ? job.first != 0 || job.count != head.count : job.first > head.count || job.count > head.count - job.first)
    return job.whole ? Fault::count : Fault::range;
  open.payload.tables.resize(head.tables_count);
  for (unsigned t = 0; t < head.tables_count; ++t) build_alias(head.tables[t].freq, open.payload.tables[t]);
  if (job.count != 0) {
    open.first_block = job.first / head.block_words;
    open.last_block = (job.first + job.count - 1) / head.block_words + 1;
  }
  return Fault::none;
}

std::size_t out_bytes(const DecodeJob& job) {  // of a word
  return job.grid != nullptr ? weight_bytes(job.grid->type) : job.word_bytes;
}

void fill_constant(std::uint8_t* out, const std::uint8_t* word, std::size_t word_bytes, std::uint64_t words) {
  if (words == 0) return;
  std::memcpy(out, word, word_bytes);
  for (std::uint64_t done = 1; done < words;) {  // doubling copies
    const std::uint64_t more = std::min(done, words - done);
    std::memcpy(out + done * word_bytes, out, more * word_bytes);
    done += more;
  }
}

// `count` words that stand plainly, the first of them being word `from` of the payload.
void put_stored(const DecodeJob& job, const std::uint8_t* words, std::uint64_t from, std::uint64_t count,
                std::uint8_t* out) {
  if (job.grid == nullptr)
    std::memcpy(out, words, count * job.word_bytes);
  else
    dequantize(*job.grid, words, job.word_bytes, from, count, out);
}

void put_constant(const DecodeJob& job, const std::uint8_t* word, std::uint64_t from, std::uint64_t count,
                  std::uint8_t* out) {
  if (job.grid == nullptr) return fill_constant(out, word, job.word_bytes, count);
  std::uint8_t indices[2 * 1024];
  fill_constant(indices, word, job.word_bytes, 1024);
  for (std::uint64_t done = 0; done < count; done += 1024)
    dequantize(*job.grid, indices, job.word_bytes, from + done, std::min<std::uint64_t>(1024, count - done),
               out + done * out_bytes(job));
}

// A thread's share: always `lockstep` blocks on the way, a new one for each that is done. Each thread keeps one Worker, so
// that it allocates once.
class Worker {
 public:
  Worker() {
    idle_.reserve(kMaxLockstep);
    active_.reserve(kMaxLockstep);
  }

  // Takes blocks by their number among all jobs' from `next` until `tasks` are taken.
  void run(const std::vector<OpenJob>& jobs, std::atomic<std::uint64_t>& next, std::uint64_t tasks, FaultLog& log) {
    const unsigned lockstep = kernels().lockstep;
    active_.clear();  // an exception may have left some
    idle_.clear();
    for (Member& member : members_) idle_.push_back(&member);
    for (;;) {
      while (active_.size() < lockstep) {
        const std::uint64_t task = next.fetch_add(1, std::memory_order_relaxed);
        if (task >= tasks) break;
        const auto job = std::upper_bound(jobs.begin(), jobs.end(), task,
                                          [](std::uint64_t t, const OpenJob& j) { return t < j.first_task; }) - 1;
        Member& member = *idle_.back();
        const std::uint64_t block = job->first_block + (task - job->first_task);
        member.where = {Fault::none, static_cast<std::int64_t>(block), static_cast<std::size_t>(job - jobs.begin())};
        if (!open_block(*job, block, member, log)) continue;
        idle_.pop_back();
        active_.push_back(&member);
      }
      if (active_.empty()) return;
      advance(log);
    }
  }

 private:
  struct Member {
    BlockDecoder decoder;
    Fetcher fetcher;
    Outcome where;
  };

  static void fail(Member& member, Fault fault, FaultLog& log) {
    member.where.fault = fault;
    log.add(member.where);
  }

  static const BlockEntry& entry_of(const OpenJob& open, std::uint64_t block) { return open.payload.head.blocks[block]; }

  // Where block `block` ends: the last one with the padding behind it.
  static std::uint64_t end_of(const OpenJob& open, std::uint64_t block) {
    if (block + 1 == open.payload.head.blocks.size()) return open.job.payload.size;
    return entry_of(open, block).offset + entry_of(open, block).length;
  }

  // Copies a block that is not coded; opens one that is. True: there are steps to decode.
  static bool open_block(const OpenJob& open, std::uint64_t block, Member& member, FaultLog& log) {
    const Head& head = open.payload.head;
    const DecodeJob& job = open.job;
    const BlockEntry& entry = entry_of(open, block);
    const std::uint8_t* bytes = member.fetcher.fetch(job.payload, entry.offset, end_of(open, block) - entry.offset);
    if (bytes == nullptr) {
      fail(member, Fault::unreadable, log);
      return false;
    }
    for (std::uint64_t at = entry.length; at < end_of(open, block) - entry.offset; ++at)
      if (bytes[at] != 0) {
        fail(member, Fault::padding, log);
        return false;
      }
    if (seeded_crc(job.seed, static_cast<std::uint32_t>(block), bytes, entry.length) != entry.checksum) {
      fail(member, Fault::block_checksum, log);
      return false;
    }
    const std::uint64_t start = block * head.block_words, words = head.words_in_block(block);
    const std::uint64_t from = std::max(start, job.first), to = std::min(start + words, job.first + job.count);
    std::uint8_t* out = job.out + (from - job.first) * out_bytes(job);
    switch (entry.kind) {
      case BlockKind::stored: put_stored(job, bytes + (from - start) * head.word_bytes, from, to - from, out); return false;
      case BlockKind::constant: put_constant(job, bytes, from, to - from, out); return false;
      case BlockKind::coded: break;
    }
    const Target target{out, from - start, to - start, job.grid, start};
    const Fault fault = member.decoder.open(open.payload, bytes, entry, words, target);
    if (fault != Fault::none) fail(member, fault, log);
    return fault == Fault::none;
  }

  // Decodes one chunk of every active member, then lets go of those that are done.
  void advance(FaultLog& log) {
    std::size_t steps = kChunkSteps;
    RansWork work[kMaxLockstep];
    for (std::size_t m = 0; m < active_.size(); ++m) {
      work[m] = active_[m]->decoder.work();
      steps = std::min(steps, active_[m]->decoder.steps_left());
    }
    for (Member* member : active_) member->decoder.prefetch_target(steps);
    kernels().rans_decode(work, static_cast<unsigned>(active_.size()), steps);
    std::erase_if(active_, [&](Member* member) {
      const Fault fault = member->decoder.emit(steps);
      if (fault != Fault::none) fail(*member, fault, log);
      const bool done = fault != Fault::none || member->decoder.steps_left() == 0;
      if (done) idle_.push_back(member);
      return done;
    });
  }

  Member members_[kMaxLockstep];
  std::vector<Member*> idle_, active_;
};

}  // namespace

Outcome decode(std::span<const DecodeJob> jobs, unsigned threads) try {
  std::vector<OpenJob> open(jobs.size());
  FaultLog log;
  parallel_for(jobs.size(), threads, [&](std::size_t j, unsigned) {
    open[j].job = jobs[j];
    Fault fault;
    try {
      fault = open_job(open[j]);
    } catch (const std::bad_alloc&) {
      fault = Fault::out_of_memory;
    }
    if (fault != Fault::none) log.add({fault, -1, j});
  });
  if (log.first()) return log.first();
  std::uint64_t tasks = 0;
  for (OpenJob& job : open) {
    job.first_task = tasks;
    tasks += job.last_block - job.first_block;
  }
  std::atomic<std::uint64_t> next{0};
  const std::uint64_t useful = std::min<std::uint64_t>(std::max(threads, 1u), tasks);
  parallel_for(useful, threads, [&](std::size_t, unsigned) {
    static thread_local Worker worker;
    try {
      worker.run(open, next, tasks, log);
    } catch (const std::bad_alloc&) {  // must not leave a pool's thread
      log.add({Fault::out_of_memory, -1, 0});
    }
  });
  return log.first();
} catch (const std::bad_alloc&) {
  return {Fault::out_of_memory, -1, 0};
}

std::uint64_t decode_symbols(const std::uint8_t* payload, std::size_t size, std::uint32_t seed, unsigned lockstep,
                             std::uint8_t* symbols) {
  OpenPayload open;
  if (read_head({payload, -1, 0, size}, seed, open.head) != Fault::none) return 0;
  open.tables.resize(open.head.tables_count);
  for (unsigned t = 0; t < open.head.tables_count; ++t) build_alias(open.head.tables[t].freq, open.tables[t]);
  std::uint64_t decoded = 0;
  std::vector<BlockDecoder> decoders(lockstep);
  for (std::uint64_t block = 0; block + lockstep <= open.head.blocks.size(); block += lockstep) {
    RansWork work[kMaxLockstep];
    std::size_t steps = kMaxSteps;
    for (unsigned k = 0; k < lockstep; ++k) {
      const BlockEntry& entry = open.head.blocks[block + k];
      const std::uint64_t words = open.head.words_in_block(block + k);
      if (entry.kind != BlockKind::coded ||
          decoders[k].open(open, payload + entry.offset, entry, words, {nullptr, 0, words, nullptr, 0}) != Fault::none)
        return 0;
      work[k] = decoders[k].work();
      work[k].symbols = symbols + (block + k) * kMaxBlockWords;
      steps = std::min(steps, decoders[k].steps_left());
    }
    kernels().rans_decode(work, lockstep, steps);
    decoded += lockstep * steps * kStep;
  }
  return decoded;
}

}  // namespace regrain
