"""A small language model that must go on to foresee the next word of news, encyclopedia and reviews.

`export.py` writes the model; the environment variable SMOLLM2 says where it is, if not in the usual place.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when transformers is imported
sys.path.insert(0, str(Path(__file__).parents[1]))  # the packages `smollm2`, this folder, and `minilm`: its texts

import numpy as np
import torch
import transformers
from minilm import data, splits
from smollm2.export import DEFAULT

import regrain

OUTPUT = "logits"
SHAPES = {"calibration": (16, 256), "search": (4, 512), "held_out": (8, 512), "audit": (8, 512)}
"""Sequences of a split, and tokens of each."""
KINDS = ("news", "articles", "reviews", "articles", "news", "articles", "news", "articles")
RUN = 64  # intervals of changes in likelihood are as wide with runs of 64 tokens as with single ones
LONG_WORDS = 600  # an article has at least as many: 512 tokens and more


@cache
def folder() -> Path:
    """Where the exported model is. Raises FileNotFoundError if it was not exported."""
    found = Path(os.environ.get("SMOLLM2") or DEFAULT).expanduser()
    if not (found / "config.json").is_file():
        raise FileNotFoundError(
            f"{found} must be a model directory: run `python examples/tasks/smollm2/export.py {found}`, "
            "or set SMOLLM2 to where it is"
        )
    return found


def load_model() -> torch.nn.Module:
    """The causal language model, computing in float32; its output matrix is its embedding."""
    transformers.logging.disable_progress_bar()
    model = transformers.AutoModelForCausalLM.from_pretrained(folder(), dtype=torch.float32, local_files_only=True)
    return model.eval()


def inputs(split: str) -> Iterator[torch.Tensor]:
    """Sequences of tokens (1, n), each beginning with BOS and of one kind of text; no document is in two of them."""
    return iter(_sequences(split))


def output(model: torch.nn.Module, batch: torch.Tensor) -> torch.Tensor:
    """Logits of the token after each one of a sequence, (n, vocabulary)."""
    return model(batch, use_cache=False).logits[0]


@torch.inference_mode()
def evaluate(model: torch.nn.Module, split: str) -> dict[str, regrain.Scores]:
    """Negative log likelihood of each token but BOS, in nats; its exponential is the perplexity.

    Tokens depend on each other over a short range: runs of RUN tokens are taken for independent.
    """
    losses = [
        torch.nn.functional.cross_entropy(output(model, ids)[:-1].float(), ids[0, 1:], reduction="none")
        for ids in inputs(split)
    ]
    runs = [np.arange(len(one)) // RUN + number * len(one) for number, one in enumerate(losses)]
    return {"nll": regrain.Scores(torch.cat(losses).numpy(), higher_is_better=False, clusters=np.concatenate(runs))}


@cache
def _sequences(split: str) -> tuple[torch.Tensor, ...]:
    count, length = SHAPES[splits.split_or_raise(split)]
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder(), local_files_only=True)
    texts = {kind: iter(documents) for kind, documents in _documents(split).items()}
    return tuple(_sequence(tokenizer, texts[KINDS[number % len(KINDS)]], length) for number in range(count))


def _sequence(tokenizer: transformers.PreTrainedTokenizerBase, texts: Iterator[str], length: int) -> torch.Tensor:
    """BOS and the tokens of the next texts, as many as it takes, cut at `length`: (1, length)."""
    ids = [tokenizer.bos_token_id]
    while len(ids) < length:
        ids += tokenizer(next(texts) + "\n\n", add_special_tokens=False)["input_ids"]
    return torch.tensor([ids[:length]])


def _documents(split: str) -> dict[str, tuple[str, ...]]:
    """Documents of a split by kind; every fourth long article is for the same split."""
    long = [text for article in data.wikipedia() if len((text := "\n\n".join(article.paragraphs)).split()) > LONG_WORDS]
    articles = tuple(long[splits.SPLITS.index(split) :: len(splits.SPLITS)])
    return {"news": splits.news(split), "articles": articles, "reviews": splits.reviews(split)}
