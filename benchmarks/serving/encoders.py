"""The sentence encoder as each engine runs it: ids of tokens (batch, tokens), no padding -> embeddings (batch, 384)."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from minilm import model as minilm
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Encode = Callable[[Ids], NDArray[np.float32]]


def in_torch(model: torch.nn.Module) -> Encode:
    """With PyTorch, however the model's layers are served."""

    def encode(ids: Ids) -> NDArray[np.float32]:
        tokens = torch.from_numpy(ids)
        with torch.inference_mode():
            return minilm.embed(model, {"input_ids": tokens, "attention_mask": torch.ones_like(tokens)}).numpy()

    return encode


def peers(work: Path) -> Iterator[tuple[str, Encode]]:
    """All peers that are installed; files that they need are made in the folder `work`."""
    model = minilm.load()
    yield "torch fp32", in_torch(model)
    dynamic = torch.ao.quantization.quantize_dynamic(copy.deepcopy(model), {torch.nn.Linear}, torch.qint8)
    yield "torch dynamic int8", in_torch(dynamic)
    for make in (_onnx_runtime, _ctranslate2, _openvino):
        with suppress(ImportError):
            yield from make(model, work)


class _Pooled(torch.nn.Module):
    """Ids -> embeddings, in one graph."""

    def __init__(self, model: torch.nn.Module) -> None:
        super().__init__()
        self.model = model
        self.eval()

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return minilm.embed(self.model, {"input_ids": input_ids, "attention_mask": attention_mask})


_NAMES = {"input_names": ["input_ids", "attention_mask"], "output_names": ["embeddings"]}


def _onnx_runtime(model: torch.nn.Module, work: Path) -> Iterator[tuple[str, Encode]]:
    """fp32 and int8 as its documentation says for transformers on a CPU: the exporter and the spelling of attention
    that its optimizer knows how to fuse, then dynamic quantization of the fused graph, with a scale for each channel.
    """
    import onnxruntime
    from onnx import TensorProto
    from onnxruntime.quantization import QuantType, quantize_dynamic
    from onnxruntime.transformers import optimizer

    fused, rounded = work / "encoder.fused.onnx", work / "encoder.int8.onnx"
    if not rounded.exists():
        plain = work / "encoder.eager.onnx"
        model.set_attn_implementation("eager")
        free = {0: "batch", 1: "tokens"}
        axes = dict.fromkeys(_NAMES["input_names"], free)
        with torch.no_grad():
            torch.onnx.export(_Pooled(model), _example(), plain, dynamo=False, dynamic_axes=axes, **_NAMES)
        model.set_attn_implementation("sdpa")
        optimized = optimizer.optimize_model(str(plain), "bert", num_heads=12, hidden_size=384)
        assert optimized.get_fused_operator_statistics()["Attention"] == 6
        optimized.save_model_to_file(str(fused))
        unknown = {"DefaultTensorType": TensorProto.FLOAT}
        quantize_dynamic(fused, rounded, weight_type=QuantType.QInt8, per_channel=True, extra_options=unknown)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    for name, path in (("fp32", fused), ("dynamic int8", rounded)):
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        yield f"ONNX Runtime {name}", _in_onnx_runtime(session)


def _in_onnx_runtime(session: Any) -> Encode:
    return lambda ids: session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]


def _ctranslate2(model: torch.nn.Module, work: Path) -> Iterator[tuple[str, Encode]]:
    import ctranslate2

    folder = work / "ctranslate2"
    if not folder.exists():
        converter = ctranslate2.converters.TransformersConverter(str(minilm.folder()))
        converter.convert(str(folder), quantization="int8")
    encoder = ctranslate2.Encoder(str(folder), compute_type="int8", inter_threads=1, intra_threads=1)

    def encode(ids: Ids) -> NDArray[np.float32]:
        hidden = np.asarray(encoder.forward_batch(ids.tolist()).last_hidden_state)
        pooled = hidden.mean(axis=1)
        found: NDArray[np.float32] = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return found

    yield "CTranslate2 int8", encode


def _example() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(1000, 2000, (2, 9))
    return ids, torch.ones_like(ids)


def _exported(model: torch.nn.Module, work: Path) -> Path:
    path = work / "encoder.onnx"
    if not path.exists():
        free = {0: torch.export.Dim.DYNAMIC, 1: torch.export.Dim.DYNAMIC}
        torch.onnx.export(_Pooled(model), _example(), path, dynamo=True, dynamic_shapes=(free, free), **_NAMES)
    return path


def _openvino(model: torch.nn.Module, work: Path) -> Iterator[tuple[str, Encode]]:
    """fp32 (its CPU plug-in would choose bf16 where the processor has it), and int8 by NNCF on calibration data."""
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    graphs = {"fp32": lambda: core.read_model(_exported(model, work))}
    with suppress(ImportError):
        import nncf

        def quantized() -> Any:
            path = work / "encoder.openvino.xml"
            if not path.exists():
                batches = [{name: value.numpy() for name, value in batch.items()} for batch in _calibration()]
                kind = nncf.ModelType.TRANSFORMER
                found = nncf.quantize(core.read_model(_exported(model, work)), nncf.Dataset(batches), model_type=kind)
                openvino.save_model(found, path, compress_to_fp16=False)
            return core.read_model(path)

        graphs["int8"] = quantized
    for name, graph in graphs.items():
        yield f"OpenVINO {name}", _in_openvino(core.compile_model(graph(), "CPU", settings))


def _in_openvino(compiled: Any) -> Encode:
    return lambda ids: compiled({"input_ids": ids, "attention_mask": np.ones_like(ids)})[0].copy()


def _calibration() -> list[minilm.Batch]:
    from minilm import splits

    return list(minilm.inputs(splits.mixture("calibration")))


def served(choices: dict[str, dict[str, Any]]) -> Iterator[tuple[str, Encode]]:
    """PyTorch's model, attached: a name -> the options of `attach`."""
    from regrain.runtime import attach

    for name, options in choices.items():
        model = minilm.load()
        attach(model, threads=1, **options)
        yield f"regrain {name}", in_torch(model)
