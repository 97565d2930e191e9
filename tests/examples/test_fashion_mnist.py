"""The Fashion-MNIST task: its network, its splits, and what the network can do."""

import importlib
import itertools
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch

import regrain.torch

FOLDER = Path(__file__).parents[2] / "examples" / "tasks" / "fashion_mnist"
NAMES = ("task", "train", "resnet", "fashion")


@pytest.fixture(scope="module")
def modules() -> Iterator[dict[str, ModuleType]]:
    """The task's modules, which find each other as they do for `python train.py`, and are forgotten afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FOLDER)
        yield {name: importlib.import_module(name) for name in NAMES}
        for name in NAMES:
            del sys.modules[name]


@pytest.fixture
def task(modules: dict[str, ModuleType]) -> ModuleType:
    return modules["task"]


@pytest.fixture
def fashion(modules: dict[str, ModuleType]) -> ModuleType:
    return modules["fashion"]


@pytest.fixture
def train(modules: dict[str, ModuleType]) -> ModuleType:
    return modules["train"]


def test_network_has_its_size(modules: dict[str, ModuleType]) -> None:
    assert sum(parameter.numel() for parameter in modules["resnet"].ResNet().parameters()) == 696_906


def test_artifact_is_small_and_exact_in_bfloat16(task: ModuleType) -> None:
    assert task.ARTIFACT.stat().st_size <= 1_200_000
    for name, tensor in regrain.torch.load_file(task.ARTIFACT).items():
        if tensor.is_floating_point():  # BatchNorm counts its steps
            assert torch.equal(tensor, tensor.bfloat16().float()), name


def test_no_image_is_in_two_splits(fashion: ModuleType) -> None:
    images = torch.cat([fashion.read(split)[0] for split in fashion.SPLITS])
    assert len(images) == 70_000
    assert len({image.numpy().tobytes() for image in images}) == len(images)


@pytest.mark.parametrize(
    ("split", "count", "batch"),
    [("calibration", 1_000, 100), ("search", 2_000, 500), ("held_out", 7_000, 500), ("audit", 5_000, 500)],
)
def test_split_gives_every_image_once_in_batches(
    task: ModuleType, fashion: ModuleType, split: str, count: int, batch: int
) -> None:
    batches = list(task.inputs(split))
    assert [tuple(images.shape) for images in batches] == [(batch, 1, 28, 28)] * (count // batch)
    assert torch.equal(torch.cat(batches), fashion.read(split)[0])


def test_network_labels_unseen_images_right(task: ModuleType, fashion: ModuleType) -> None:
    model = task.load_model()
    images, labels = (tensor[:2_000] for tensor in fashion.read("audit"))
    with torch.inference_mode():
        right = task.output(model, images).argmax(1) == labels
    assert right.double().mean() >= 0.92


def test_evaluate_scores_each_image(task: ModuleType, fashion: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    images, labels = (tensor[:600] for tensor in fashion.read("search"))
    monkeypatch.setattr(fashion, "read", lambda split: (images, labels))
    model = task.load_model()
    scores = task.evaluate(model, "search")["accuracy"]
    with torch.no_grad():
        assert scores.values.tolist() == [
            float(model(image[None]).argmax() == label) for image, label in zip(images, labels, strict=True)
        ]


def test_output_is_differentiable_in_every_weight_and_repeats_itself(task: ModuleType) -> None:
    model = task.load_model()
    assert not model.training
    batch = next(task.inputs("calibration"))
    logits = task.output(model, batch)
    assert torch.equal(logits, task.output(task.load_model(), batch))
    logits.square().sum().backward()
    for name, weight in model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.abs().max() > 0, name


def test_augmented_image_is_a_moved_or_mirrored_one(train: ModuleType) -> None:
    torch.manual_seed(1)
    image = torch.zeros(1, 1, 28, 28)
    image[..., 5:9, 3:5] = torch.arange(1.0, 9.0).reshape(4, 2)
    shifts = range(-train.SHIFT, train.SHIFT + 1)
    expected = set()
    for down, right in itertools.product(shifts, shifts):
        moved = image.roll((down, right), (2, 3))
        expected |= {moved.numpy().tobytes(), moved.flip(3).numpy().tobytes()}
    seen = {made.numpy().tobytes() for made in train.augment(image.expand(2_000, -1, -1, -1))}
    assert seen == expected


def test_batches_are_whole_and_repeat_no_index(train: ModuleType) -> None:
    batches = list(train.batches(3 * train.BATCH + 5))
    assert [len(batch) for batch in batches] == [train.BATCH] * 3
    assert len(torch.cat(batches).unique()) == 3 * train.BATCH


def test_missing_data_names_the_package(fashion: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fashion, "FOLDER", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"must be there and is not.*apt-get install dataset-fashion-mnist"):
        fashion.read.__wrapped__("search")


def test_unknown_split_is_named(task: ModuleType) -> None:
    with pytest.raises(ValueError, match=r"must be one of .*held_out, audit, not 'test'"):
        next(task.inputs("test"))
