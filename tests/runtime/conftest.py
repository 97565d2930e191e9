"""Small networks that are served."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np
import pytest
import torch
from torch import nn

from regrain.runtime import attachment, calibrate
from regrain.runtime.host import Host
from regrain.runtime.layout import NEVER


class Mlp(nn.Module):
    """Three linear layers with activations between them."""

    def __init__(self, sizes: tuple[int, ...] = (40, 48, 37, 8)) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(*pair) for pair in itertools.pairwise(sizes))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers[:-1]:
            x = nn.functional.gelu(layer(x))
        return self.layers[-1](x)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """PyTorch's threads wait busily for each other, which small products on a busy machine suffer from."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class Panelled(Host):
    """A host on which panels are always fastest: what serves doesn't depend on what else the machine is doing."""

    def border(self, few: object, many: object) -> int:
        return NEVER

    def torch_border(self, few: object) -> int:
        return NEVER

    def prefers_original(self, *_: object) -> bool:
        return False


@pytest.fixture(autouse=True)
def panelled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attachment, "HOST", Panelled())


@pytest.fixture
def mlp() -> Mlp:
    torch.manual_seed(0)
    return Mlp().eval()


@pytest.fixture
def bert() -> nn.Module:
    from transformers import BertConfig, BertModel

    torch.manual_seed(1)
    config = BertConfig(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=4, intermediate_size=80, vocab_size=50,
        max_position_embeddings=32,
    )  # fmt: skip
    return BertModel(config).eval()


@pytest.fixture
def llama() -> nn.Module:
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(2)
    config = LlamaConfig(
        hidden_size=48, num_hidden_layers=2, num_attention_heads=6, num_key_value_heads=2, intermediate_size=80,
        vocab_size=50, max_position_embeddings=64, tie_word_embeddings=True,
    )  # fmt: skip
    return LlamaForCausalLM(config).eval()


@pytest.fixture
def gpt2() -> nn.Module:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(3)
    return GPT2LMHeadModel(GPT2Config(n_embd=48, n_layer=2, n_head=4, vocab_size=50, n_positions=32)).eval()


@pytest.fixture
def stream() -> Callable[[int], torch.Tensor]:
    """Inputs of an Mlp, 64 tokens of which some channels vary much more than others: which, a number says."""

    def tokens(kind: int, count: int = 64, seed: int = 0) -> torch.Tensor:
        random = np.random.default_rng([kind, seed])
        scale = np.roll(np.geomspace(4.0, 0.05, 40), 20 * kind)
        return torch.from_numpy((random.normal(0.3, 1.0, (count, 40)) * scale).astype(np.float32))

    return tokens


@pytest.fixture
def calibration(mlp: Mlp, stream: Callable[..., torch.Tensor]):
    """What is known of the Mlp, for half of its weights."""
    return calibrate(mlp, lambda: (mlp(stream(0, seed=seed)) for seed in range(8)), density=0.5)
