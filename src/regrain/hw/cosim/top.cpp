// Runs one matrix of `Top` between models of its memories. Follows engine.cpp, whose models it uses.

// Master copies: a word asked for in one cycle comes in the next.
struct Master {
    std::int64_t words, width;   // rows of data; words of 32 bits in each
    Word* data;                  // (words, width)
};

// Changes of granularity: their cycles, and to what. `count` goes on beyond `room`.
struct Switches {
    std::int64_t* cycles;
    std::uint8_t* codes;
    std::int64_t room, count;
};

// Metrics told to control from outside, in rising cycles.
struct Observations {
    std::int64_t count;
    const std::int64_t* cycles;
    const Word* metrics;
};

// What is around one matrix while it runs, in cycles from that of its `start`.
class Surroundings {
  public:
    Surroundings(const Shape& shape, const Weights& weights, const Master& master, const Activations& activations,
                 Outputs& outputs, const Observations& observations, Switches& switches)
        : shape_(shape), source_(weights), master_(master), memory_(activations, shape), outputs_(outputs),
          observations_(observations), switches_(switches) {}

    void offer(std::int64_t now, Word* in) {
        in[In::at_start] = now == 0;
        in[In::at_master__ready] = 1;
        source_.offer(now, in);
        memory_.offer(now, in);
        const bool observing = observed_ < observations_.count && observations_.cycles[observed_] == now;
        in[In::at_observe] = observing;
        if (observing) in[In::at_observation] = observations_.metrics[observed_++];
    }

    // 0, or a Failure.
    std::int64_t settle(std::int64_t now, const Word* out, Word* in) {
        source_.settle(now, out);
        if (!memory_.settle(now, out, in)) return OUTSIDE;
        in[In::at_master__valid] = out[Out::at_master__read];
        if (out[Out::at_master__read]) {
            const std::int64_t place = out[Out::at_master__address];
            if (place >= master_.words) return OUTSIDE;
            std::copy_n(master_.data + place * master_.width, master_.width, in + In::at_master__data);
        }
        if (changed_ && switches_.count <= switches_.room)
            switches_.codes[switches_.count - 1] = std::uint8_t(out[Out::at_granularity]);
        changed_ = out[Out::at_switched];
        if (changed_ && switches_.count++ < switches_.room) switches_.cycles[switches_.count - 1] = now;
        return record(out, shape_, outputs_) ? 0 : STRAY;
    }

  private:
    const Shape& shape_;
    WeightSource source_;
    const Master& master_;
    ActivationMemory memory_;
    Outputs& outputs_;
    const Observations& observations_;
    Switches& switches_;
    std::int64_t observed_ = 0;
    bool changed_ = false;
};

// As regrain_engine, from the inputs in `in`: descriptor and number of the matrix.
extern "C" __attribute__((visibility("default"))) std::int64_t regrain_top(
    void* handle, const Shape* shape, Word* in, const Weights* weights, const Master* master,
    const Activations* activations, Outputs* outputs, const Observations* observations, Switches* switches,
    std::int64_t limit, std::int64_t tail) {
    Bench& bench = *static_cast<Bench*>(handle);
    std::vector<Word> out(OUT_WORDS);
    Surroundings around(*shape, *weights, *master, *activations, *outputs, *observations, *switches);
    std::int64_t stopped = -1;
    for (std::int64_t now = 0; now < limit; ++now) {
        around.offer(now, in);
        bench.cycle(in, out.data());
        if (const std::int64_t failure = around.settle(now, out.data(), in)) return failure;
        if (out[Out::at_done]) return now;
        if (stopped < 0 && out[Out::at_fault]) stopped = now;
        if (stopped >= 0 && now >= stopped + tail) return stopped;
    }
    return TOO_LONG;
}
