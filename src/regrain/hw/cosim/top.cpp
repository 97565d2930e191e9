// Runs one matrix of `Top` between models of its memories. Follows engine.cpp, whose models it uses.

// The master copy: a word asked for in one cycle comes in the next.
struct Master {
    std::int64_t words, width;   // rows of data; words of 32 bits in each
    const Word* data;            // (words, width)
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

// As regrain_engine, from the inputs in `in`: descriptor and number of the matrix.
extern "C" __attribute__((visibility("default"))) std::int64_t regrain_top(
    void* handle, const Shape* shape, Word* in, const Weights* weights, const Master* master,
    const Activations* activations, Outputs* outputs, const Observations* observations, Switches* switches,
    std::int64_t limit, std::int64_t tail) {
    Bench& bench = *static_cast<Bench*>(handle);
    std::vector<Word> out(OUT_WORDS);
    WeightSource source(*weights);
    ActivationMemory memory(*activations, *shape);
    in[In::at_start] = 1;
    in[In::at_master__ready] = 1;
    std::int64_t stopped = -1;
    std::int64_t observed = 0;
    bool changed = false;
    for (std::int64_t now = 0; now < limit; ++now) {
        source.offer(now, in);
        memory.offer(now, in);
        const bool observing = observed < observations->count && observations->cycles[observed] == now;
        in[In::at_observe] = observing;
        if (observing) in[In::at_observation] = observations->metrics[observed++];
        bench.cycle(in, out.data());
        in[In::at_start] = 0;
        source.settle(now, out.data());
        if (!memory.settle(now, out.data(), in)) return OUTSIDE;
        in[In::at_master__valid] = out[Out::at_master__read];
        if (out[Out::at_master__read]) {
            const std::int64_t place = out[Out::at_master__address];
            if (place >= master->words) return OUTSIDE;
            std::copy_n(master->data + place * master->width, master->width, in + In::at_master__data);
        }
        if (changed && switches->count <= switches->room)
            switches->codes[switches->count - 1] = std::uint8_t(out[Out::at_granularity]);
        changed = out[Out::at_switched];
        if (changed && switches->count++ < switches->room) switches->cycles[switches->count - 1] = now;
        if (!record(out.data(), *shape, *outputs)) return STRAY;
        if (out[Out::at_done]) return now;
        if (stopped < 0 && out[Out::at_fault]) stopped = now;
        if (stopped >= 0 && now >= stopped + tail) return stopped;
    }
    return TOO_LONG;
}
