"""Proofs about the hardware, for all inputs and all times: k-induction by Yosys and z3.

| module | of | claims |
|---|---|---|
| `claim` | - | what a claim is, and what it can see of its block |
| `prove` | - | runs the tools |
| `queue` | `Fifo` | nothing overflows, gets lost or overtakes |
| `granularity` | `Control` | no change without a switch, steps, dwell, costs, a pattern that stays |
| `halves` | `Compactor` | what is being sent isn't written, what is offered stays, tiles end once |
| `in_flight` | `Reorganizer` | no word of the master copy comes that there is no room for |
| `samples` | `Monitor` | sums and differences keep to their widths, tiles don't overtake |
| `banks` | `Bank` | what is read is what was written for the tile, whole, and not meanwhile; words are those of steps |
| `bounds` | `Sequencer` beside such a bank | addresses stay within what was loaded; passes end with a step |
| `width` | `PE` | accumulators don't wrap if the loader's bound holds |
| `claims` | - | all of them |
"""
