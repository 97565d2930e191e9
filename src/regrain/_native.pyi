"""regrain's compiled kernels; use regrain.kernels"""

from collections.abc import Sequence
from typing import Annotated, Any

import numpy
import numpy.typing
from numpy.typing import NDArray

def crc32c(data: numpy.typing.NDArray[numpy.uint8] | bytes | memoryview, value: int = 0) -> int: ...
def decode(
    payload: numpy.typing.NDArray[numpy.uint8] | bytes | memoryview,
    out: numpy.typing.NDArray[numpy.unsignedinteger],
    seed: int,
    first: int,
    whole: bool,
    threads: int,
) -> tuple[int, int | None, str] | None: ...
def decode_many(
    jobs: Sequence[
        tuple[numpy.typing.NDArray[numpy.uint8] | bytes | memoryview, numpy.typing.NDArray[numpy.unsignedinteger], int]
    ],
    threads: int,
) -> tuple[int, int | None, str] | None: ...
def decode_file(
    file: int, jobs: Sequence[tuple[int, int, numpy.typing.NDArray[numpy.unsignedinteger], int]], threads: int
) -> tuple[int, int | None, str] | None: ...
def decode_file_range(
    file: int,
    offset: int,
    size: int,
    out: numpy.typing.NDArray[numpy.unsignedinteger],
    seed: int,
    first: int,
    threads: int,
) -> tuple[int, int | None, str] | None: ...
def dequantize(
    indices: numpy.typing.NDArray[numpy.signedinteger],
    grid: tuple[numpy.typing.NDArray[numpy.float32], int, int, int, int, int],
    first: int,
    out: numpy.typing.NDArray[numpy.uint8],
) -> None: ...
def decode_weights(
    jobs: Sequence[
        tuple[
            numpy.typing.NDArray[numpy.uint8] | bytes | memoryview,
            int,
            int,
            tuple[numpy.typing.NDArray[numpy.float32], int, int, int, int, int],
            int,
            numpy.typing.NDArray[numpy.uint8],
        ]
    ],
    threads: int,
) -> tuple[int, int | None, str] | None: ...
def decode_weights_file(
    file: int,
    jobs: Sequence[
        tuple[
            tuple[int, int],
            int,
            int,
            tuple[numpy.typing.NDArray[numpy.float32], int, int, int, int, int],
            int,
            numpy.typing.NDArray[numpy.uint8],
        ]
    ],
    threads: int,
) -> tuple[int, int | None, str] | None: ...
def expand(
    mask: numpy.typing.NDArray[numpy.uint8],
    unit: tuple[int, int],
    values: numpy.typing.NDArray[numpy.integer],
    first: int,
    out: numpy.typing.NDArray[numpy.integer],
) -> None: ...
def encode(
    words: numpy.typing.NDArray[numpy.unsignedinteger],
    out: numpy.typing.NDArray[numpy.uint8],
    family: int,
    mantissa_bits: int,
    row_words: int,
    seed: int,
    threads: int,
) -> int: ...
def bound(count: int, word_bytes: int) -> int: ...
def info(
    payload: numpy.typing.NDArray[numpy.uint8] | bytes | memoryview, seed: int
) -> dict[str, Any] | tuple[int, int | None, str]: ...
def info_file(file: int, offset: int, size: int, seed: int) -> dict[str, Any] | tuple[int, int | None, str]: ...
def allocate(sizes: Sequence[int]) -> list[numpy.typing.NDArray[numpy.uint8]]: ...
def instruction_sets() -> list[str]: ...
def use_instruction_set(name: str) -> bool: ...
def instruction_set() -> str: ...
def round_with_feedback(
    weights: numpy.typing.NDArray[numpy.float32],
    scales: numpy.typing.NDArray[numpy.float32],
    cell_rows: int,
    cell_columns: int,
    column_factor: numpy.typing.NDArray[numpy.float32] | None,
    row_factor: numpy.typing.NDArray[numpy.float32] | None,
    weight_rows: numpy.typing.NDArray[numpy.float32],
    weight_columns: numpy.typing.NDArray[numpy.float32],
    dead_zone: float,
    keep: numpy.typing.NDArray[numpy.uint8] | None,
    indices: numpy.typing.NDArray[numpy.int16],
) -> float: ...
def decode_symbols(
    payload: numpy.typing.NDArray[numpy.uint8] | bytes | memoryview,
    seed: int,
    lockstep: int,
    symbols: numpy.typing.NDArray[numpy.uint8],
) -> int: ...

class IntegerMatrix:
    def __init__(
        self,
        rows: int,
        columns: int,
        gathered: Annotated[NDArray[numpy.uint16], dict(shape=(None,), order="C", device="cpu", writable=False)] | None,
        starts: Annotated[NDArray[numpy.uint32], dict(shape=(None,), order="C", device="cpu", writable=False)] | None,
        lists: Annotated[NDArray[numpy.uint16], dict(shape=(None,), order="C", device="cpu", writable=False)] | None,
        values: Annotated[NDArray[numpy.int8], dict(shape=(None, None, None), order="C", device="cpu", writable=False)],
        scales: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)],
        bias: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)],
    ) -> None: ...
    def multiply(
        self,
        x: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)],
        out: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu")],
        threads: int,
    ) -> None: ...
    def multiply_at(self, x: int, tokens: int, x_stride: int, out: int, out_stride: int, threads: int) -> None: ...

class MapNetwork:
    def __init__(self, folded: int, means: bool) -> None: ...
    def add_map(self, channels: int, size: Sequence[int], margin: Sequence[int], scale: float, zero: int) -> None: ...
    def convolve(
        self,
        input: int,
        output: int,
        added: int | None,
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        starts: Annotated[NDArray[numpy.uint32], dict(shape=(None,), order="C", device="cpu", writable=False)] | None,
        groups: Annotated[NDArray[numpy.uint32], dict(shape=(None,), order="C", device="cpu", writable=False)] | None,
        values: Annotated[NDArray[numpy.int8], dict(shape=(None, None, None), order="C", device="cpu", writable=False)],
        factors: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)],
        bias: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)],
        weight: float,
        low: float,
    ) -> None: ...
    def run_at(self, x: int, images: int, out: int, threads: int) -> bool: ...

def moments(
    x: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)],
    mean: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)],
    sums: Annotated[NDArray[numpy.float64], dict(shape=(2, None), order="C", device="cpu")],
) -> bool: ...

class PanelMatrix:
    def __init__(
        self,
        type: int,
        rows: int,
        columns: int,
        segments: int,
        shared: bool,
        starts: Annotated[NDArray[numpy.uint32], dict(shape=(None,), order="C", device="cpu", writable=False)],
        lists: Annotated[NDArray[numpy.uint16], dict(shape=(None,), order="C", device="cpu", writable=False)] | None,
        values: Annotated[NDArray, dict(order="C", device="cpu", writable=False)],
        scales: Annotated[
            NDArray[numpy.float32], dict(shape=(None, None, None), order="C", device="cpu", writable=False)
        ]
        | None,
        bias: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)],
    ) -> None: ...
    def pack(
        self,
        matrix: Annotated[NDArray, dict(shape=(None, None), order="C", device="cpu", writable=False)],
        values: Annotated[NDArray, dict(order="C", device="cpu")],
    ) -> None: ...
    def multiply(
        self,
        x: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)],
        out: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu")],
        threads: int,
    ) -> None: ...
    def multiply_at(self, x: int, tokens: int, x_stride: int, out: int, out_stride: int, threads: int) -> None: ...
    def convolve_at(
        self,
        x: int,
        images: int,
        channels: int,
        size: Sequence[int],
        kernel: Sequence[int],
        stride: Sequence[int],
        padding: Sequence[int],
        dilation: Sequence[int],
        out: int,
        threads: int,
    ) -> None: ...

class RowMatrix:
    def __init__(
        self,
        weights: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)],
        keep: Annotated[NDArray[numpy.bool_], dict(shape=(None, None), order="C", device="cpu", writable=False)],
        unit: int,
        bias: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)],
    ) -> None: ...
    def with_bias(
        self, bias: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)]
    ) -> RowMatrix: ...
    def multiply(
        self,
        x: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)],
        out: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu")],
        threads: int,
    ) -> None: ...
    def multiply_at(self, x: int, tokens: int, x_stride: int, out: int, out_stride: int, threads: int) -> None: ...
    @property
    def nbytes(self) -> int: ...

class SkipMatrix:
    def __init__(
        self,
        type: int,
        rows: int,
        threshold: float,
        values: Annotated[NDArray, dict(shape=(None, None), order="C", device="cpu", writable=False)],
        scales: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)] | None,
        mean: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)],
        norm: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)],
        bias: Annotated[NDArray[numpy.float32], dict(shape=(None,), order="C", device="cpu", writable=False)],
    ) -> None: ...
    def multiply(
        self,
        x: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu", writable=False)],
        out: Annotated[NDArray[numpy.float32], dict(shape=(None, None), order="C", device="cpu")],
        threads: int,
    ) -> int: ...
    def multiply_at(self, x: int, tokens: int, x_stride: int, out: int, out_stride: int, threads: int) -> int: ...
