"""Reconstruct programs with something wrong, for what must refuse them or give the same."""

from __future__ import annotations

import dataclasses

import numpy as np

from regrain.hw.reconstruction.instructions import FORMATS


def changed(program, rng):
    """A list of instructions as numbers, with one whose operand was changed, or that is left out, given twice, or in
    another's place; or with a bit flipped.
    """
    program, at = list(program), int(rng.integers(len(program)))
    match rng.integers(5):
        case 0:
            names = FORMATS[program[at].op]
            which = int(rng.integers(len(names)))
            _, _, least, most = names[which]
            near = [program[at].operands[which] + d for d in (-64, -1, 1, 64)]
            value = int(np.clip(rng.choice([least, most, *near]), least, most))
            operands = tuple(value if i == which else old for i, old in enumerate(program[at].operands))
            program[at] = dataclasses.replace(program[at], operands=operands)
        case 1:
            del program[at]
        case 2:
            program.insert(at, program[at])
        case 3:
            other = int(rng.integers(len(program)))
            program[at], program[other] = program[other], program[at]
        case _:
            return [each.to_int() ^ (1 << int(rng.integers(128)) if i == at else 0) for i, each in enumerate(program)]
    return [each.to_int() for each in program]
