"""The language model as each engine decodes with it: a text's tokens one by one, and the logits that follow each."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from smollm2 import task as smollm2
from smollm2.export import gguf_file

Logits = NDArray[np.float32]
Decode = Callable[[list[int], int], Logits]
"""(tokens, length of the prompt) -> logits (tokens after the prompt, vocabulary): the prompt is taken in at once."""

SKIPPED = {"down_proj": 0.8, "o_proj": 0.7, "gate_proj": 0.85, "up_proj": 0.85, "lm_head": 0.8}
"""Columns that token-skip keeps, by the ends of layers' names; others keep all."""


def in_torch(model: Any) -> Decode:
    """With Transformers, however the model's layers are served."""

    def decode(tokens: list[int], prompt: int) -> Logits:
        found = []
        with torch.inference_mode():
            out = model(torch.tensor([tokens[:prompt]]), use_cache=True, logits_to_keep=1)
            for token in tokens[prompt:]:
                out = model(torch.tensor([[token]]), past_key_values=out.past_key_values, use_cache=True)
                found.append(out.logits[0, -1].numpy())
        return np.stack(found)

    return decode


def peers(work: Path) -> Iterator[tuple[str, Decode]]:
    """All peers that are installed; files that they need are made in the folder `work`."""
    yield "torch fp32", in_torch(smollm2.load_model())
    for make in (_genai, _llama):
        with suppress(ImportError):
            yield from make(work)


def _genai(work: Path) -> Iterator[tuple[str, Decode]]:
    """By its own model builder, with the defaults of each precision."""
    genai = importlib.import_module("onnxruntime_genai")
    builder = importlib.import_module("onnxruntime_genai.models.builder")
    for precision in ("fp32", "int8", "int4"):
        folder = work / f"genai-{precision}"
        if not folder.exists():
            builder.create_model(None, str(smollm2.folder()), str(folder), precision, "cpu", str(work / "cache"))
        config = genai.Config(str(folder))
        config.overlay('{"model": {"decoder": {"session_options": {"intra_op_num_threads": 1}}}}')
        yield f"ONNX Runtime GenAI {precision}", _in_genai(genai, genai.Model(config))


def _in_genai(genai: Any, model: Any) -> Decode:
    def decode(tokens: list[int], prompt: int) -> Logits:
        settings = genai.GeneratorParams(model)
        settings.set_search_options(max_length=len(tokens) + 1)
        generator = genai.Generator(model, settings)
        generator.append_tokens(np.asarray([tokens[:prompt]], np.int32))
        found = []
        for token in tokens[prompt:]:
            generator.append_tokens(np.asarray([[token]], np.int32))
            found.append(np.asarray(generator.get_output("logits"), np.float32).reshape(-1, 49152)[-1].copy())
        return np.stack(found)

    return decode


def _llama(work: Path) -> Iterator[tuple[str, Decode]]:
    """The file of the package, whose weights are those of all other engines; and Q8_0, made of these by llama.cpp."""
    llama = importlib.import_module("llama_cpp")
    rounded = work / "q8_0.gguf"
    if not rounded.exists():
        settings = llama.llama_model_quantize_default_params()
        settings.ftype, settings.allow_requantize, settings.nthread = llama.LLAMA_FTYPE_MOSTLY_Q8_0, True, 1
        llama.llama_model_quantize(str(gguf_file()).encode(), str(rounded).encode(), settings)
    threads = {"n_threads": 1, "n_threads_batch": 1}
    for name, path in (("Q4_1", gguf_file()), ("Q8_0", rounded)):
        model = llama.Llama(str(path), n_ctx=512, flash_attn=True, verbose=False, **threads)
        yield f"llama.cpp {name}", _in_llama(model)


def _in_llama(model: Any) -> Decode:
    def decode(tokens: list[int], prompt: int) -> Logits:
        model.reset()
        model.eval(tokens[:prompt])
        found = []
        for token in tokens[prompt:]:
            model.eval([token])
            found.append(np.ctypeslib.as_array(model._ctx.get_logits(), (model.n_vocab(),)).copy())
        return np.stack(found)

    return decode


def served(choices: Mapping[str, dict[str, Any]]) -> Iterator[tuple[str, Decode]]:
    """Transformers' model, attached: a name -> the options of `attach`."""
    from regrain.runtime import attach

    for name, options in choices.items():
        model = smollm2.load_model()
        calibration = skipping(model, SKIPPED) if options.get("policy") == "token-skip" else None
        attach(model, threads=1, calibration=calibration, **options)
        yield f"regrain {name}", in_torch(model)


def skipping(model: Any, kept: Mapping[str, float]) -> Any:
    """Thresholds on calibration texts of matrices that skip columns by token."""
    from regrain.runtime import calibrate

    def run() -> Iterator[object]:
        for ids in list(smollm2.inputs("calibration"))[:6]:
            yield smollm2.output(model, ids)

    names = [name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)]
    shares = {f"{name}.weight": kept[end] for name in names if (end := name.rpartition(".")[2]) in kept}
    return {name: found for name, found in calibrate(model, run, density=shares, skip=True).items() if name in shares}
