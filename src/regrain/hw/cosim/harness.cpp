// Runs a verilated model for many cycles over rows of 32-bit words. What stands before this text, written for each
// component, gives: class Model; IN_WORDS and OUT_WORDS, words of a row; drive(model, row) and sample(model, row);
// clock(model, level), which does nothing where there are no registers.

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

using Word = std::uint32_t;

struct Bench {
    VerilatedContext context;
    std::unique_ptr<Model> model;

    Bench() : model(std::make_unique<Model>(&context)) {}
    ~Bench() { model->final(); }

    // One cycle: inputs act on the outputs, which are sampled; then the clock's edge.
    void cycle(const Word* in, Word* out) {
        drive(*model, in);
        clock(*model, 0);
        model->eval();
        sample(*model, out);
        clock(*model, 1);
        model->eval();
    }
};

// A valid/ready stream into the component: item by item, each held until it is taken. Cycle t begins to offer an item
// only if offered[t] is set.
struct Source {
    std::int64_t items, width;     // rows of data, words in each
    const Word* data;              // (items, width)
    const Word* places;            // (width,): where they go in a row of inputs
    const std::uint8_t* offered;   // (cycles,)
    Word valid, ready;             // places in rows of inputs and outputs
};

// A synchronous memory: what is addressed in one cycle, and enabled, is data from the next cycle on.
struct Memory {
    std::int64_t depth, width;
    const Word* data;              // (depth, width)
    const Word* places;            // (width,): where they go in a row of inputs
    Word address, enable;          // places in a row of outputs; enable is ALWAYS where there is no such port
};

constexpr Word ALWAYS = 0xFFFFFFFFu;
constexpr Word NEVER = 0xFFFFFFFFu;

extern "C" {

__attribute__((visibility("default"))) void* regrain_create() { return new Bench; }

__attribute__((visibility("default"))) void regrain_destroy(void* bench) { delete static_cast<Bench*>(bench); }

// Run up to `cycles`, and no further than the first in which output word `until` isn't 0 (NEVER: all). `in` (cycles,
// IN_WORDS) gets what sources and memories drive, `out` (cycles, OUT_WORDS) what the component gives; `taken` (sources,)
// counts the items that were taken. Returns the cycles run; -1 - t if memory `*culprit` was read outside in cycle t.
__attribute__((visibility("default"))) std::int64_t regrain_run(
    void* handle, std::int64_t cycles, Word* in, Word* out, Word until, const Source* sources, std::int64_t* taken,
    std::int64_t source_count, const Memory* memories, std::int64_t memory_count, std::int64_t* culprit) {
    Bench& bench = *static_cast<Bench*>(handle);
    std::vector<std::uint8_t> held(source_count, 0);
    std::vector<const Word*> read(memory_count, nullptr);
    std::fill_n(taken, source_count, 0);
    for (std::int64_t t = 0; t < cycles; ++t, in += IN_WORDS, out += OUT_WORDS) {
        for (std::int64_t s = 0; s < source_count; ++s) {
            const Source& source = sources[s];
            held[s] = taken[s] < source.items && (held[s] || source.offered[t]);
            in[source.valid] = held[s];
            const Word* item = source.data + taken[s] * source.width;
            for (std::int64_t w = 0; w < source.width; ++w) in[source.places[w]] = held[s] ? item[w] : 0;
        }
        for (std::int64_t m = 0; m < memory_count; ++m)
            for (std::int64_t w = 0; w < memories[m].width; ++w)
                in[memories[m].places[w]] = read[m] ? read[m][w] : 0;
        bench.cycle(in, out);
        for (std::int64_t s = 0; s < source_count; ++s)
            if (held[s] && out[sources[s].ready]) ++taken[s], held[s] = 0;
        for (std::int64_t m = 0; m < memory_count; ++m) {
            const Memory& memory = memories[m];
            if (memory.enable != ALWAYS && !out[memory.enable]) continue;
            if (out[memory.address] >= memory.depth) {
                *culprit = m;
                return -1 - t;
            }
            read[m] = memory.data + out[memory.address] * memory.width;
        }
        if (until != NEVER && out[until]) return t + 1;
    }
    return cycles;
}
}
