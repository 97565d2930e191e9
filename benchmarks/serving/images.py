"""Time the classification of images by whole networks: python benchmarks/serving/images.py [--rounds N]

The convolutional network of examples/tasks/fashion_mnist, its normalizations folded into its convolutions for every
engine; and the one that images_pruned.py has made of it, where that has been run. Points are of accuracy on images that
nobody was calibrated on; each timed result is judged there.
"""

from __future__ import annotations

import argparse
import copy
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2] / "examples" / "tasks" / "fashion_mnist"))
sys.path.append(str(Path(__file__).parents[1]))

import fashion
import numpy as np
import torch
from images_pruned import NAME
from numpy.typing import NDArray
from race import race
from results import keep
from task import inputs, load_model
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from regrain.models.channels import channel_groups
from regrain.models.slim import slim
from regrain.runtime import attach, calibrate, stretches
from regrain.torch import load_file

BATCHES = (1, 64)
IMAGES = 256
"""Images of a round."""

OURS = "regrain"
Images = NDArray[np.float32]
Classify = Callable[[Images], NDArray[np.float32]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--work", type=Path, default=Path("build/serving"), help="folder for the peers' files")
    options = parser.parse_args()
    torch.set_num_threads(1)
    options.work.mkdir(parents=True, exist_ok=True)
    engines = dict((*peers(folded(load_model()), options.work, ""), *served(load_model())))
    if (options.work / NAME).exists():
        pruned = load_model()
        pruned.load_state_dict(load_file(options.work / NAME))
        engines |= dict((*peers(folded(sliced(pruned)), options.work, ", pruned"), *served_whole(pruned, ", pruned")))
    for batch in BATCHES:
        measure(engines, batch, options.rounds)


def measure(engines: dict[str, Classify], batch: int, rounds: int) -> None:
    """All engines with one size of batch: rows into the file of results."""
    images, labels = (part.numpy() for part in fashion.read("audit"))
    right = {name: accuracy(classify, images, labels) for name, classify in engines.items()}
    calls = IMAGES // batch

    def work(classify: Classify) -> Callable[[int], object]:
        def run(turn: int) -> object:
            first = turn * IMAGES % (len(images) - IMAGES)
            return [classify(images[first + call * batch :][:batch]) for call in range(calls)]

        return run

    def judge(name: str, turn: int, result: Any) -> None:
        first = turn * IMAGES % (len(images) - IMAGES)
        hits = (np.concatenate(result).argmax(1) == labels[first : first + IMAGES]).mean()
        if hits < right[name] - 0.1:
            raise SystemExit(f"{name} gave a wrong result: its time means nothing")

    times = race({name: work(classify) for name, classify in engines.items()}, rounds, judge)
    peers = [name for name in engines if not name.startswith(OURS)]
    fastest = min(peers, key=lambda name: sorted(times[name].cpu)[rounds // 2])
    rows = []
    for name, found in times.items():
        drop = right["torch fp32"] - right[name]
        rows.append({"engine": name, "batch": batch, "rounds": rounds, "fastest_peer": name == fastest, "drop": drop})
        rows[-1] |= found.summary(calls, times[fastest])
        print(
            "{engine:28} batch {batch:2}  cpu {cpu_ms:7.3f} ms  ratio {ratio:.3f}  drop {drop:+.4f}".format(**rows[-1])
        )
    keep("images", ("batch", "engine"), rows)


def accuracy(classify: Classify, images: Images, labels: NDArray[np.int64]) -> float:
    """The share of images that are told right."""
    guesses = np.concatenate([classify(images[first : first + 64]).argmax(1) for first in range(0, len(images), 64)])
    return float((guesses == labels).mean())


def folded(model: nn.Module) -> nn.Module:
    """A copy of the network, each normalization in the convolution before it."""
    model = copy.deepcopy(model)
    for module in list(model.modules()):
        names = list(module._modules)
        for first, second in pairwise(names):
            conv, norm = getattr(module, first), getattr(module, second)
            if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                setattr(module, first, fuse_conv_bn_eval(conv, norm))
                setattr(module, second, nn.Identity())
    return model


def in_torch(model: nn.Module, layout: torch.memory_format = torch.contiguous_format) -> Classify:
    """With PyTorch, however the model's layers are served."""

    def classify(images: Images) -> NDArray[np.float32]:
        with torch.inference_mode():
            return model(torch.from_numpy(images).contiguous(memory_format=layout)).numpy()

    return classify


def sliced(model: nn.Module) -> nn.Module:
    """A copy of the network without the channels that nothing reads any more: dense engines need not compute them."""
    model = copy.deepcopy(model)
    state, kept = model.state_dict(), {}
    for group in channel_groups(model, lambda: model(torch.zeros(2, 1, 28, 28))).groups:
        read = [state[name].reshape(len(state[name]), group.channels, -1).any(2).any(0) for name in group.users]
        kept[group] = torch.stack(read).any(0).nonzero().flatten().tolist()
        if len(kept[group]) < group.channels:
            print(f"{', '.join(group.makers)}: {len(kept[group])} of {group.channels} channels are read")
    slim(model, kept)
    return model


def peers(model: nn.Module, work: Path, kind: str) -> Iterator[tuple[str, Classify]]:
    """All peers that are installed; PyTorch is one of the dense network only."""
    if not kind:
        yield "torch fp32", in_torch(model)
        last = copy.deepcopy(model).to(memory_format=torch.channels_last)
        yield "torch fp32, channels last", in_torch(last, torch.channels_last)
    exported = work / f"images{kind.replace(', ', '.')}.onnx"
    with torch.no_grad():
        free = {"images": {0: "batch"}}
        names: dict[str, Any] = {"input_names": ["images"], "output_names": ["logits"], "dynamic_axes": free}
        torch.onnx.export(model, (torch.zeros(2, 1, 28, 28),), exported, dynamo=False, **names)
    for make in (_onnx_runtime, _openvino):
        with suppress(ImportError):
            for name, classify in make(exported):
                yield f"{name}{kind}", classify


def _onnx_runtime(exported: Path) -> Iterator[tuple[str, Classify]]:
    import onnxruntime
    from onnxruntime import quantization

    class Data(quantization.CalibrationDataReader):
        batches = inputs("calibration")

        def get_next(self) -> dict[str, Images] | None:
            batch = next(self.batches, None)
            return None if batch is None else {"images": batch.numpy()}

    prepared, rounded = exported.with_suffix(".prepared.onnx"), exported.with_suffix(".int8.onnx")
    quantization.shape_inference.quant_pre_process(exported, prepared)
    # With signed activations, its default, it is three times as slow.
    unsigned = quantization.QuantType.QUInt8
    quantization.quantize_static(prepared, rounded, Data(), per_channel=True, activation_type=unsigned)
    for name, path in (("fp32", exported), ("int8", rounded)):
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        yield f"ONNX Runtime {name}", lambda images, session=session: session.run(None, {"images": images})[0]


def _openvino(exported: Path) -> Iterator[tuple[str, Classify]]:
    import openvino

    core = openvino.Core()
    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    graph = core.read_model(exported)
    graphs = [("fp32", graph)]
    with suppress(ImportError):
        import nncf

        graphs.append(("int8", nncf.quantize(graph, nncf.Dataset([one.numpy() for one in inputs("calibration")]))))
    for name, one in graphs:
        compiled = core.compile_model(one, "CPU", settings)
        yield f"OpenVINO {name}", lambda images, compiled=compiled: compiled({"images": images})[0].copy()


def served(model: nn.Module) -> Iterator[tuple[str, Classify]]:
    """PyTorch's model, attached layer by layer: dense, and with half of the blocks dropped and the others compensated;
    and as a whole.
    """

    def run() -> Iterator[object]:
        return (pruned(images) for images in inputs("calibration"))

    dense, pruned = folded(model), folded(model)
    attach(dense, threads=1)
    yield f"{OURS} f32", in_torch(dense)
    calibration = calibrate(pruned, run, density=0.5, pattern="block:16x1")
    attach(pruned, policy="static", calibration=calibration, threads=1)
    yield f"{OURS} f32, half the blocks", in_torch(pruned)
    yield from served_whole(model, "")


def served_whole(model: nn.Module, kind: str) -> Iterator[tuple[str, Classify]]:
    """PyTorch's model, attached as a whole, on eight bits."""
    whole = stretches(model, lambda: (model(images) for images in inputs("calibration")))
    attach(model, whole=whole, threads=1)
    yield f"{OURS} int8, whole{kind}", in_torch(model)


if __name__ == "__main__":
    main()
