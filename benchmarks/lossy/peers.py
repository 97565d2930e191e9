"""Other tools that make weights small at a loss, each at its documented settings: the table of what is measured.

"linears 4, embeddings 2" says how wide the codes of both kinds of matrices are; a single number is for both. Every tool
is given the embeddings too, by whatever interface it has; rows "linears only" are what its own walk over a model does.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import file_tools
import torch_tools
from stored import Stored, as_safetensors
from subject import State, embeddings, linears

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Peer:
    """A tool with its settings. tool: the name of its distribution, or "reference"."""

    tool: str
    config: str
    store: Callable[[State], Stored]
    note: str = ""


def _each(
    tool: str,
    config: str,
    store: Callable[[State, Mapping[str, Any]], Stored],
    linear: Callable[[], T] | T,
    embedding: Callable[[], T] | T | None,
    note: str = "",
) -> Peer:
    """A peer that takes a setting for each matrix; None leaves the embeddings in float16."""

    def run(state: State) -> Stored:
        settings = dict.fromkeys(linears(state), _now(linear))
        if embedding is not None:
            settings |= dict.fromkeys(embeddings(state), _now(embedding))
        return store(state, settings)

    return Peer(tool, config, run, note)


def _now(setting: Any) -> Any:
    """torchao's configurations are made when they are used: the tool may not be installed."""
    return setting() if callable(setting) else setting


def _torchao() -> list[Peer]:
    tools, one = torch_tools, partial(_each, "torchao", store=torch_tools.torchao)
    prototype = "linears by the prototype configuration for CPUs: that of the stable one needs CUDA"
    packed = "embeddings by IntxWeightOnlyConfig, whose codes of a byte each are counted as 4 bits"
    return [
        one(config="int8 rows", linear=tools.int8_rows, embedding=tools.int8_rows),
        one(config="int8 rows, linears only", linear=tools.int8_rows, embedding=None),
        one(
            config="linears int8 rows, embeddings int4 group 32",
            linear=tools.int8_rows,
            embedding=partial(tools.intx_groups, 4, 32),
            note=packed,
        ),
        *(
            one(
                config=f"int4 group {size}",
                linear=partial(tools.int4_groups, size),
                embedding=partial(tools.intx_groups, 4, size),
                note=f"{prototype}; {packed}",
            )
            for size in (32, 64, 128)
        ),
        one(
            config="int4 group 64 by HQQ",
            linear=partial(tools.int4_groups, 64, hqq=True),
            embedding=partial(tools.intx_groups, 4, 64),
            note=f"{prototype}; {packed}",
        ),
    ]


def _hqq() -> list[Peer]:
    one = partial(_each, "hqq", store=torch_tools.hqq)
    columns = partial(torch_tools.hqq, axis=0)
    return [
        *(one(config=f"{bits} bits, group 64", linear=bits, embedding=bits) for bits in (8, 4, 3, 2)),
        one(config="linears 4 bits, embeddings 3, group 64", linear=4, embedding=3),
        one(config="4 bits, group 64, linears only", linear=4, embedding=None),
        _each("hqq", "3 bits, group 64, axis 0", columns, 3, 3, "groups along columns: slower to use, finer"),
    ]


def _quanto() -> list[Peer]:
    one = partial(_each, "optimum-quanto", store=torch_tools.quanto)
    best = partial(_each, "optimum-quanto", store=partial(torch_tools.quanto, optimizer="hqq"))
    return [
        one(config="qint8", linear="qint8", embedding="qint8"),
        one(config="qint8, linears only", linear="qint8", embedding=None),
        one(config="qint4", linear="qint4", embedding="qint4"),
        best(config="qint4, HqqOptimizer", linear="qint4", embedding="qint4"),
        best(config="linears qint4, embeddings qint2, HqqOptimizer", linear="qint4", embedding="qint2"),
        best(config="qint2, HqqOptimizer", linear="qint2", embedding="qint2"),
    ]


def _gguf() -> list[Peer]:
    one = partial(_each, "gguf", store=file_tools.gguf)
    absent = f"{', '.join(file_tools.NO_ENCODER)}: the package only reads them"
    return [
        *(
            one(config=kind, linear=kind, embedding=kind, note=absent)
            for kind in ("Q8_0", "Q5_1", "Q5_0", "Q4_1", "Q4_0")
        ),
        one(config="linears Q8_0, embeddings Q4_0", linear="Q8_0", embedding="Q4_0"),
        one(config="linears Q5_0, embeddings Q4_0", linear="Q5_0", embedding="Q4_0"),
    ]


def _nncodec() -> list[Peer]:
    def one(config: str, qp: int, **settings: Any) -> Peer:
        return Peer("nncodec", config, partial(file_tools.nncodec, qp=qp, **settings))

    return [
        *(one(f"qp {qp}", qp) for qp in (-36, -32, -28, -26, -24, -22, -20)),
        *(one(f"qp {qp}, opt_qp", qp, opt_qp=True) for qp in (-40, -36, -32, -28, -24)),
        one("qp -28, no dependent quantization", -28, use_dq=False),
    ]


def _reference() -> list[Peer]:
    one = partial(_each, "reference", store=file_tools.rounding)
    half = Peer("reference", "float16", partial(as_safetensors, {}), "nothing quantized: what the metrics start from")
    return [half, *(one(config=f"int{bits} rows, to nearest", linear=bits, embedding=bits) for bits in (8, 4))]


PEERS = (*_nncodec(), *_reference(), *_gguf(), *_torchao(), *_hqq(), *_quanto())
