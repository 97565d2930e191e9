"""The `gguf` package, nncodec, and rounding to nearest as the plainest reference."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from stored import Stored, bundle, nibbles
from subject import State

NO_ENCODER = ("Q6_K", "Q5_K", "Q4_K", "Q3_K", "Q2_K")
"""Types that gguf reads and cannot write; their blocks are 256 long, and most rows of this model have 384 weights."""


def gguf(state: State, types: Mapping[str, str]) -> Stored:
    """`types`: name of a matrix -> GGML's type for it. The rest is float16, in one GGUF file."""
    import gguf as tool

    weights: State = {}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        writer = tool.GGUFWriter(path, "bert")
        for name, tensor in state.items():
            kind = tool.GGMLQuantizationType[types.get(name, "F16")]
            data = tool.quantize(tensor.numpy(), kind)
            writer.add_tensor(name, data, raw_dtype=kind)
            weights[name] = torch.from_numpy(tool.dequantize(data, kind)).float().reshape(tensor.shape)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return Stored(path.stat().st_size, weights)


def nncodec(state: State, qp: int, **settings: Any) -> Stored:
    """The bitstream of `nncodec.nn.encode` for a dictionary of arrays, and the time of its `decode`.

    Its defaults besides: dependent (trellis-coded) quantization, tuned context models, qp -75 for vectors.
    """
    coder = _nncodec()
    arrays = {name: tensor.numpy() for name, tensor in state.items()}
    options = {"use_dq": True, "param_opt": True, "nonweight_qp": -75} | settings
    stream = coder.compress(arrays, bitstream_path=None, qp=qp, return_bitstream=True, verbose=False, **options)
    start = time.process_time()
    decoded = coder.decompress(stream)
    seconds = time.process_time() - start
    return Stored(len(stream), {name: torch.from_numpy(array) for name, array in decoded.items()}, seconds)


def rounding(state: State, bits: Mapping[str, int]) -> Stored:
    """Symmetric integers to nearest, scaled by each row's greatest magnitude."""
    found = []
    for name, width in bits.items():
        largest = (1 << (width - 1)) - 1
        scale = (state[name].abs().amax(dim=1, keepdim=True) / largest).half()
        codes = (state[name] / scale.float()).round().clamp(-largest, largest)
        packed = {8: lambda values: values.to(torch.int8), 4: lambda values: nibbles(values.to(torch.int8))}[width](
            codes
        )
        found.append((name, {"codes": packed, "scale": scale}, codes * scale.float()))
    return bundle(found, state)


@cache
def _nncodec() -> Any:
    """nncodec's coder alone. Its adapters for frameworks want torchvision, whose wheels do not load beside a build of
    PyTorch for CPUs; arrays don't pass through them.
    """
    adapters = ModuleType("nncodec.framework")
    for name in ("tensorflow_model", "pytorch_model", "use_case_init"):
        setattr(adapters, name, ModuleType(name))
    sys.modules["nncodec.framework"] = adapters
    from nncodec import nnc

    return nnc
