// Runs one job of `Engine` between models of its memories. Follows harness.cpp; In::at_<port> and Out::at_<port> are the
// places of its ports in rows of words.

// Words of weights: word k of a tile is offered `delay[k]` cycles after the first cycle in which the bank takes words of
// that tile; not before cycle t with offered[t] (beyond `offered_count`: always). Once offered, it stays.
struct Weights {
    std::int64_t words, width;             // rows of data; words of 32 bits in each
    const Word* data;                      // (words, width)
    const std::int64_t* delay;             // (words,)
    const std::uint8_t* ends;              // (words,): the last of its tile
    const std::uint8_t* offered;
    std::int64_t offered_count;
};

// Activations: token-major bytes. A pass finds its own from a cycle on that depends on when passes before it were over:
// fetched one after the other, `transfer` cycles each, the first after `latency`, as soon as one of `room` tiles is free;
// passes from `fetches` on find theirs in the buffer. And never in a cycle t without ready[t] (beyond: always).
struct Activations {
    const std::int8_t* data;               // (token_tiles * rows, channels)
    std::int64_t tokens, channels;
    const std::uint8_t* ready;
    std::int64_t ready_count;
    std::int64_t transfer, latency, room, fetches;
};

// What leaves, at [tile][token]; `seen` counts how often.
struct Outputs {
    std::int32_t* sums;                    // (tiles, tokens, outputs)
    std::int8_t* values;                   // (tiles, tokens, outputs)
    std::uint8_t* seen;                    // (tiles, tokens)
    std::int64_t tiles, tokens;
};

struct Shape {
    std::int64_t rows, block, outputs, accumulator;
};

enum Failure : std::int64_t { OUTSIDE = -1, TOO_LONG = -2, STRAY = -3 };

static inline std::uint32_t bits(const Word* words, std::int64_t at, std::int64_t width) {
    std::uint64_t both = words[at / 32];
    if (at % 32 + width > 32) both |= std::uint64_t(words[at / 32 + 1]) << 32;
    return std::uint32_t(both >> (at % 32)) & std::uint32_t((std::uint64_t(1) << width) - 1);
}

class WeightSource {
  public:
    explicit WeightSource(const Weights& weights) : weights_(weights) {}

    void offer(std::int64_t now, Word* in) {
        if (!held_ && taken_ < weights_.words) {
            const std::int64_t delay = weights_.delay[taken_];
            const bool due = delay == 0 || (asked_ >= 0 && now >= asked_ + delay);
            held_ = due && (now >= weights_.offered_count || weights_.offered[now]);
        }
        in[In::at_stream__valid] = held_;
        if (held_) std::copy_n(weights_.data + taken_ * weights_.width, weights_.width, in + In::at_stream__payload);
    }

    void settle(std::int64_t now, const Word* out) {
        if (!out[Out::at_stream__ready]) return;
        if (asked_ < 0) asked_ = now;
        if (!held_) return;
        if (weights_.ends[taken_]) asked_ = -1;
        ++taken_;
        held_ = false;
    }

  private:
    const Weights& weights_;
    std::int64_t taken_ = 0, asked_ = -1;
    bool held_ = false;
};

class ActivationMemory {
  public:
    ActivationMemory(const Activations& memory, const Shape& shape) : memory_(memory), shape_(shape) { next(); }

    void offer(std::int64_t now, Word* in) const {
        in[In::at_act_ready] = now >= from_ && (now >= memory_.ready_count || memory_.ready[now]);
    }

    // False if what is read lies outside.
    bool settle(std::int64_t now, const Word* out, Word* in) {
        if (out[Out::at_pass_done]) {
            over_.push_back(now);
            next();
        }
        if (!out[Out::at_act_read]) return true;
        std::int8_t* data = reinterpret_cast<std::int8_t*>(in + In::at_activations);
        const std::int64_t first = std::int64_t(out[Out::at_act_tile]) * shape_.rows;
        if (first + shape_.rows > memory_.tokens) return false;
        for (std::int64_t slot = 0; slot < shape_.block; ++slot) {
            const std::int64_t row = bits(out + Out::at_act_rows, 10 * slot, 10), channel = row * shape_.block + slot;
            if (channel >= memory_.channels) return false;
            const std::int8_t* token = memory_.data + first * memory_.channels + channel;
            for (std::int64_t r = 0; r < shape_.rows; ++r, token += memory_.channels)
                data[r * shape_.block + slot] = *token;
        }
        return true;
    }

  private:
    void next() {
        const std::int64_t number = std::int64_t(over_.size());
        from_ = 0;
        if (number >= memory_.fetches) return;
        const std::int64_t asked = number < memory_.room ? 0 : over_[number - memory_.room] + 1;
        from_ = arrived_ = std::max(arrived_, asked + memory_.latency) + memory_.transfer;
    }

    const Activations& memory_;
    const Shape& shape_;
    std::vector<std::int64_t> over_;
    std::int64_t arrived_ = 0, from_ = 0;
};

// False if a token leaves that the job doesn't have.
static bool record(const Word* out, const Shape& shape, Outputs& outputs) {
    if (!out[Out::at_out_valid]) return true;
    const std::int64_t tile = out[Out::at_out_tile];
    const std::int64_t token = std::int64_t(out[Out::at_out_token_tile]) * shape.rows + out[Out::at_out_row];
    if (tile >= outputs.tiles || token >= outputs.tokens) return false;
    const std::int64_t place = tile * outputs.tokens + token;
    ++outputs.seen[place];
    const std::int64_t spare = 32 - shape.accumulator;
    for (std::int64_t i = 0; i < shape.outputs; ++i) {
        const std::uint32_t raw = bits(out + Out::at_out_sums, i * shape.accumulator, shape.accumulator);
        outputs.sums[place * shape.outputs + i] = std::int32_t(raw << spare) >> spare;
        outputs.values[place * shape.outputs + i] = std::int8_t(bits(out + Out::at_out_values, 8 * i, 8));
    }
    return true;
}

// Start with the inputs in `in` (IN_WORDS: the job) and run to `done`: returns its cycle, counted from that of `start`.
// After a fault, runs `tail` cycles more and returns the cycle in which `busy` had fallen. Else a Failure.
extern "C" __attribute__((visibility("default"))) std::int64_t regrain_engine(
    void* handle, const Shape* shape, Word* in, const Weights* weights, const Activations* activations,
    Outputs* outputs, std::int64_t limit, std::int64_t tail) {
    Bench& bench = *static_cast<Bench*>(handle);
    std::vector<Word> out(OUT_WORDS);
    WeightSource source(*weights);
    ActivationMemory memory(*activations, *shape);
    in[In::at_start] = 1;
    std::int64_t stopped = -1;
    for (std::int64_t now = 0; now < limit; ++now) {
        source.offer(now, in);
        memory.offer(now, in);
        bench.cycle(in, out.data());
        in[In::at_start] = 0;
        source.settle(now, out.data());
        if (!memory.settle(now, out.data(), in)) return OUTSIDE;
        if (!record(out.data(), *shape, *outputs)) return STRAY;
        if (out[Out::at_done]) return now;
        if (stopped < 0 && out[Out::at_fault]) stopped = now;
        if (stopped >= 0 && now >= stopped + tail) return stopped;
    }
    return TOO_LONG;
}
