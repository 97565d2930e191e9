"""What other libraries have for a product y = x W^T + b on one thread. Each function takes W (rows, columns), b and x
(tokens, columns), float32, and gives something to call for y (tokens, rows).
"""

from __future__ import annotations

import logging
import os
import tempfile
import warnings
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

os.environ.setdefault("NM_DISABLE_ANALYTICS", "1")  # DeepSparse would report its use
logging.getLogger().setLevel(logging.ERROR)  # quantize_dynamic always has some advice
warnings.filterwarnings("ignore", message="Sparse (CSR|BSR) tensor support is in beta state")
warnings.filterwarnings("ignore", message="torch.quantize_per_tensor")  # deprecated, and what users have

Floats = NDArray[np.float32]
Run = Callable[[], Any]


def torch_dense(weights: Floats, bias: Floats, x: Floats) -> Run:
    """What users run otherwise."""
    w, b, tokens = (torch.from_numpy(array.copy()) for array in (weights, bias, x))
    return lambda: functional.linear(tokens, w, b)


def torch_sliced(weights: Floats, bias: Floats, x: Floats, columns: NDArray[np.bool_]) -> Run:
    """The dense product with the columns that are kept, of tokens that have no others."""
    return torch_dense(weights[:, columns], bias, x[:, columns])


def torch_int8(weights: Floats, bias: Floats, x: Floats) -> Run:
    """What `torch.ao.quantization.quantize_dynamic` makes of a linear layer."""
    scale = float(np.abs(weights).max()) / 127
    quantized = torch.quantize_per_tensor(torch.from_numpy(weights), scale, 0, torch.qint8)
    packed = torch.ops.quantized.linear_prepack(quantized, torch.from_numpy(bias))
    tokens = torch.from_numpy(x)
    return lambda: torch.ops.quantized.linear_dynamic(tokens, packed, reduce_range=True)


def torch_csr(weights: Floats, bias: Floats, x: Floats) -> Run:
    """Rows of single weights; y is the transpose of what comes out, which costs nothing."""
    return _torch_sparse(torch.from_numpy(weights).to_sparse_csr(), bias, x)


def torch_bsr(weights: Floats, bias: Floats, x: Floats) -> Run:
    """Blocks of 16 x 16."""
    return _torch_sparse(torch.from_numpy(weights).to_sparse_bsr((16, 16)), bias, x)


def _torch_sparse(matrix: torch.Tensor, bias: Floats, x: Floats) -> Run:
    b, tokens = torch.from_numpy(bias)[:, None], torch.from_numpy(np.ascontiguousarray(x.T))
    return lambda: (matrix @ tokens).add_(b).T


def onnx_runtime(weights: Floats, bias: Floats, x: Floats, *, int8: bool = False) -> Run:
    """A session of one thread, product and bias, its memory bound; int8: as `quantize_dynamic` rewrites it."""
    onnxruntime = import_module("onnxruntime")
    with tempfile.TemporaryDirectory() as folder:
        path = _model(weights, bias, None, Path(folder))
        if int8:
            quantization = import_module("onnxruntime.quantization")
            path, source = Path(folder) / "int8.onnx", path
            quantization.quantize_dynamic(source, path, weight_type=quantization.QuantType.QInt8)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    binding, y = session.io_binding(), np.empty((len(x), len(weights)), np.float32)
    binding.bind_cpu_input("x", x)
    binding.bind_output("y", "cpu", 0, np.float32, y.shape, y.ctypes.data)

    def run() -> Floats:
        session.run_with_iobinding(binding)
        return y

    return run


def deep_sparse(weights: Floats, bias: Floats, x: Floats) -> Run:
    """DeepSparse on one core, for so many tokens."""
    deepsparse = import_module("deepsparse")
    with tempfile.TemporaryDirectory() as folder:
        engine = deepsparse.Engine(str(_model(weights, bias, len(x), Path(folder))), batch_size=len(x), num_cores=1)
    return lambda: engine.run([x])[0]


def _model(weights: Floats, bias: Floats, tokens: int | None, folder: Path) -> Path:
    onnx = import_module("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    shapes = [("x", weights.shape[1]), ("y", weights.shape[0])]
    x, y = (helper.make_tensor_value_info(name, kind, [tokens or "n", size]) for name, size in shapes)
    constants = [
        onnx.numpy_helper.from_array(np.ascontiguousarray(weights.T), "w"),
        onnx.numpy_helper.from_array(bias, "b"),
    ]
    nodes = [helper.make_node("MatMul", ["x", "w"], ["product"]), helper.make_node("Add", ["product", "b"], ["y"])]
    graph = helper.make_graph(nodes, "product", [x], [y], constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)])
    model.ir_version = 8
    path = folder / "model.onnx"
    onnx.save(model, path)
    return path
