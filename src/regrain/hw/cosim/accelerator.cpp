// Reconstructs a matrix and runs one, at the same time or not, between models of their memories. Follows top.cpp.

// The payload, whose bytes come in the cycle after they were asked for; and in which cycles the memory of master copies
// takes a word: in t with ready[t], beyond always.
struct Payload {
    const std::uint8_t* data;
    std::int64_t bytes;
    const std::uint8_t* ready;
    std::int64_t ready_count;
};

// When a command is given, counted from the first cycle, or -1; and when it was over, from there.
struct Command {
    std::int64_t begins, cycles;
};

// False if what is read lies outside.
static bool fetch(const Payload& payload, const Word* out, Word* in) {
    constexpr struct { int read, address, data; } ports[] = {
        {Out::at_stream_read, Out::at_stream_address, In::at_stream_data},
        {Out::at_plane_read, Out::at_plane_address, In::at_plane_data},
        {Out::at_escape_read, Out::at_escape_address, In::at_escape_data},
    };
    for (const auto& port : ports) {
        if (!out[port.read]) continue;
        if (out[port.address] >= payload.bytes) return false;
        in[port.data] = payload.data[out[port.address]];
    }
    return true;
}

// Lanes of a word, their bytes and behind them their tags. False if the word lies outside.
static bool store(const Master& master, const Shape& shape, const Word* out) {
    const std::int64_t place = out[Out::at_copy__address];
    if (place >= master.words) return false;
    Word* word = master.data + place * master.width;
    const auto take = [&](std::int64_t bit) {
        const Word one = Word(1) << (bit % 32);
        word[bit / 32] = (word[bit / 32] & ~one) | (out[Out::at_copy__data + bit / 32] & one);
    };
    for (std::int64_t lane = 0; lane < shape.outputs; ++lane) {
        if (!bits(out + Out::at_copy__lanes, lane, 1)) continue;
        for (std::int64_t bit = 8 * lane; bit < 8 * lane + 8; ++bit) take(bit);
        take(8 * shape.outputs + lane);
    }
    return true;
}

// Gives both commands, with the inputs in `in`: source, descriptor, matrix, limit. Runs until they are over, done or
// stopped, and after a fault `tail` cycles more. Returns 0 or a Failure; what is read or stored outside is OUTSIDE.
extern "C" __attribute__((visibility("default"))) std::int64_t regrain_accelerator(
    void* handle, const Shape* shape, Word* in, const Weights* weights, const Master* master,
    const Activations* activations, Outputs* outputs, const Observations* observations, Switches* switches,
    const Payload* payload, Command* reconstruct, Command* run, std::int64_t limit, std::int64_t tail) {
    Bench& bench = *static_cast<Bench*>(handle);
    std::vector<Word> out(OUT_WORDS);
    Surroundings around(*shape, *weights, *master, *activations, *outputs, *observations, *switches);
    std::int64_t over = -1;
    const auto follow = [&](Command& command, std::int64_t now, bool done, bool busy) {
        if (command.begins >= 0 && command.cycles < 0 && now >= command.begins && (done || (now > command.begins && !busy)))
            command.cycles = now - command.begins;
        return command.begins < 0 || command.cycles >= 0;
    };
    for (std::int64_t now = 0; now < limit; ++now) {
        const bool running = run->begins >= 0 && now >= run->begins;
        if (running) around.offer(now - run->begins, in);
        in[In::at_reconstruct] = now == reconstruct->begins;
        in[In::at_copy__ready] = now >= payload->ready_count || payload->ready[now];
        bench.cycle(in, out.data());
        if (running)
            if (const std::int64_t failure = around.settle(now - run->begins, out.data(), in)) return failure;
        if (!fetch(*payload, out.data(), in)) return OUTSIDE;
        if (out[Out::at_copy__valid] && in[In::at_copy__ready] && !store(*master, *shape, out.data())) return OUTSIDE;
        const bool first = follow(*reconstruct, now, out[Out::at_reconstructed], out[Out::at_reconstructing]);
        const bool second = follow(*run, now, out[Out::at_done], out[Out::at_busy]);
        if (over < 0 && first && second) over = now;
        if (over >= 0 && (!out[Out::at_fault] || now >= over + tail)) return 0;
    }
    return TOO_LONG;
}
