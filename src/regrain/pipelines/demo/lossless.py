"""`regrain demo --lossless`: every lossless verb on a real model, everything proved and measured beside other tools."""

from __future__ import annotations

import filecmp
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import safetensors.torch
import torch

import regrain.torch
from regrain.core.errors import RegrainError
from regrain.core.profile import ModelProfile
from regrain.pipelines.inspect import Inspection
from regrain.pipelines.lossless import compress_lossless
from regrain.pipelines.peers import Rate, peers, race, same_bits
from regrain.pipelines.profile import profile
from regrain.pipelines.restore import restore
from regrain.pipelines.sentences import SENTENCES, Encoder, Pair, closest, model_folder
from regrain.pipelines.verify import verify

THREADS = (1, 2)
ROUNDS = 5

Said = Callable[[str], None]
"""Called with what is being done."""

_DTYPES = (("BF16", torch.bfloat16), ("F32", torch.float32))


@dataclass(frozen=True, slots=True)
class Proof:
    """One thing that was shown, never assumed: the demo fails if it is not so."""

    text: str


@dataclass(frozen=True, slots=True)
class ModelDemo:
    """The demo on one model file. `rates` has regrain and each peer, once for each number of threads it can use."""

    dtype: str
    plain: Path
    profile: ModelProfile
    artifact: Inspection
    proofs: tuple[Proof, ...]
    closest: Pair
    rates: tuple[Rate, ...]
    missing: tuple[str, ...]

    @property
    def break_even(self) -> float:
        """GB/s of a disk from which plain file and artifact take equally long, decoding with one thread after reading.

        From a slower disk the artifact is there first: n/d = s/d + n/r gives d = r (1 - s/n), with n bytes of the
        plain file, s of the artifact, and the decoder's rate r.
        """
        return self.rates[0].load * (1 - self.artifact.nbytes / self.artifact.original_bytes)

    def to_json(self) -> dict[str, object]:
        """A JSON object: sizes in bytes, rates in GB/s of the original's bytes."""
        return {
            "dtype": self.dtype,
            "model": str(self.plain),
            "artifact": str(self.artifact.path),
            "original_bytes": self.artifact.original_bytes,
            "bytes": self.artifact.nbytes,
            "predicted_bytes": self.profile.predicted_bytes,
            "original_bits_per_weight": self.artifact.original_bits_per_weight,
            "bits_per_weight": self.artifact.bits_per_weight,
            "proofs": [proof.text for proof in self.proofs],
            "break_even_gb_per_s": self.break_even,
            "rates": [rate.to_json() for rate in self.rates],
            "missing": list(self.missing),
        }


@dataclass(frozen=True, slots=True)
class LosslessDemo:
    """The whole demo. `kept` says whether the files are still there."""

    models: tuple[ModelDemo, ...]
    folder: Path
    kept: bool
    sentences: int
    rounds: int
    seconds: float

    def to_json(self) -> dict[str, object]:
        """A JSON object with all of it."""
        return {
            "models": [model.to_json() for model in self.models],
            "folder": str(self.folder) if self.kept else None,
            "sentences": self.sentences,
            "rounds": self.rounds,
            "seconds": self.seconds,
        }


def demo_lossless(
    folder: Path, *, kept: bool = False, force: bool = False, rounds: int = ROUNDS, said: Said = lambda _: None
) -> LosslessDemo:
    """Run the demo on all-MiniLM-L6-v2, as bf16 (a cast) and as fp32 (as published), writing below `folder`.

    Profile, compress, verify, restore; load what was compressed and run the sentence encoder with it; then measure
    regrain beside plain safetensors and the lossless tools that are installed, interleaved, `rounds` times.

    Raises RegrainError if the model's package is not installed or anything is not bit-identical.
    """
    start = time.perf_counter()
    source = model_folder()
    folder.mkdir(parents=True, exist_ok=True)
    models = tuple(_one(source, folder, name, dtype, force, rounds, said) for name, dtype in _DTYPES)
    return LosslessDemo(models, folder, kept, len(SENTENCES), rounds, time.perf_counter() - start)


def _one(source: Path, folder: Path, name: str, dtype: torch.dtype, force: bool, rounds: int, said: Said) -> ModelDemo:
    def step(what: str) -> None:
        said(f"{name}: {what}")

    step("preparing the model")
    plain = _plain(source, folder, name, dtype)
    stem = f"minilm-{name.lower()}"
    artifact, restored = folder / f"{stem}.regrain.safetensors", folder / f"{stem}.restored.safetensors"
    step("profiling")
    profiled = profile(plain)
    step("compressing")
    compressed = compress_lossless(plain, artifact, force=force)
    step("verifying")
    verify(artifact, plain)
    proofs = [Proof("regrain verify: every checksum and final state is right, and every bit is the original's")]
    step("restoring")
    restore(artifact, restored, force=force)
    _require(filecmp.cmp(plain, restored, shallow=False), "the restored file", "the original")
    proofs.append(Proof(f"regrain restore: the file is byte-identical to the original, {plain.stat().st_size:,} bytes"))
    restored.unlink()
    step("loading")
    before, after = safetensors.torch.load_file(plain), regrain.torch.load_file(artifact)
    _require(same_bits(before, after), "tensors from the artifact", "those from the plain file")
    proofs.append(Proof(f"regrain.torch.load_file: all {len(after)} tensors are bit-identical"))
    step("running the sentence encoder")
    encoder = Encoder(source, dtype)
    expected, found = encoder.embed(before), encoder.embed(after)
    _require(bool(expected.isfinite().all()), "embeddings", "finite")
    _require(same_bits({"": expected}, {"": found}), "embeddings from the artifact", "those from the plain file")
    proofs.append(Proof(f"sentence encoder: embeddings of {len(SENTENCES)} sentences are bit-identical"))
    del before, after
    tools, missing = peers(name, THREADS)
    rates = race(tools, plain.read_bytes(), folder, rounds, step)
    return ModelDemo(name, plain, profiled, compressed.artifact, tuple(proofs), closest(found), tuple(rates), missing)


def _plain(source: Path, folder: Path, name: str, dtype: torch.dtype) -> Path:
    """The plain file: the package's own in fp32, its cast otherwise."""
    published = source / "model.safetensors"
    if name == "F32":
        return published
    tensors = safetensors.torch.load_file(published)
    path = folder / f"minilm-{name.lower()}.safetensors"
    cast = {key: tensor.to(dtype) if tensor.is_floating_point() else tensor for key, tensor in tensors.items()}
    safetensors.torch.save_file(cast, path)
    return path


def _require(true: bool, what: str, wanted: str) -> None:
    if not true:
        raise RegrainError(f"{what} must be {wanted} to the last bit, but differ: please report it")
