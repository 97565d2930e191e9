"""Served layers give what the layers themselves give, and can be given back."""

from __future__ import annotations

import copy
import io
import pickle
import warnings

import pytest
import torch
from torch import nn

import regrain
from regrain.runtime import attach


def close(a: torch.Tensor, b: torch.Tensor) -> bool:
    return torch.allclose(a, b, rtol=1e-4, atol=1e-5)


def ids(rows: int = 2, tokens: int = 9) -> torch.Tensor:
    return torch.randint(0, 50, (rows, tokens), generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("name", ["bert", "llama", "gpt2"])
@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_networks_give_the_same(request, name, mode):
    model = request.getfixturevalue(name)
    with mode():
        wanted = model(ids())[0]
        with attach(model) as attachment:
            assert close(model(ids())[0], wanted)
            assert not attachment.left
            assert len(attachment.engines) == {"bert": 13, "llama": 15, "gpt2": 9}[name]
        assert torch.equal(model(ids())[0], wanted)


def test_generation_gives_the_same_tokens(llama):
    options = {"max_new_tokens": 12, "do_sample": False, "pad_token_id": 0}
    wanted = llama.generate(ids(1, 5), **options)
    with attach(llama):
        assert torch.equal(llama.generate(ids(1, 5), **options), wanted)


@pytest.mark.parametrize(
    "shape", [(40,), (1, 40), (3, 40), (0, 40), (2, 3, 40), (2, 0, 3, 40), (1, 1, 1, 1, 40), (200, 40)]
)
def test_any_leading_shape(mlp, shape):
    x = torch.randn(shape)
    with torch.no_grad():
        wanted = mlp(x)
        with attach(mlp, threads=2):
            found = mlp(x)
    assert found.shape == wanted.shape
    assert found.is_contiguous()
    assert close(found, wanted)


def test_inputs_that_are_not_contiguous(mlp):
    wide = torch.randn(7, 80)
    for x in (wide[:, ::2], wide[::3, :40], torch.randn(40, 6).T, torch.randn(1, 40).expand(5, 40)):
        with torch.no_grad():
            wanted = mlp(x)
            with attach(mlp):
                assert close(mlp(x), wanted)


def test_input_by_name(mlp):
    x = torch.randn(3, 40)
    with torch.no_grad():
        wanted = mlp.layers[0](x)
        with attach(mlp):
            assert close(mlp.layers[0](input=x), wanted)


@pytest.mark.parametrize(("value", "tolerance"), [("f16", 2e-3), ("i8", 2e-2), ("i4", 0.3)])
def test_smaller_values(mlp, value, tolerance):
    x = torch.randn(30, 40)
    with torch.no_grad():
        wanted = mlp(x)
        with attach(mlp, value=value) as attachment:
            assert float((mlp(x) - wanted).norm() / wanted.norm()) < tolerance
            assert attachment.nbytes < 0.7 * sum(p.numel() * 4 for p in mlp.parameters())


def test_the_model_looks_as_it_did(mlp):
    before, types = {name: value.clone() for name, value in mlp.state_dict().items()}, [type(m) for m in mlp.modules()]
    with attach(mlp):
        state = mlp.state_dict()
        assert [type(module) for module in mlp.modules()] == types
        assert list(state) == list(before)
        assert all(torch.equal(state[name], before[name]) for name in before)
        assert sum(p.numel() for p in mlp.parameters()) == sum(value.numel() for value in before.values())
    assert all("forward" not in vars(module) for module in mlp.modules())


@pytest.mark.parametrize("copied", ["deepcopy", "pickle", "save"])
def test_copies_are_not_attached(mlp, copied):
    x = torch.randn(3, 40)
    with torch.no_grad(), attach(mlp, value="i4", consistent="model"):
        if copied == "deepcopy":
            other = copy.deepcopy(mlp)
        elif copied == "pickle":
            other = pickle.loads(pickle.dumps(mlp))
        else:
            file = io.BytesIO()
            torch.save(mlp, file)
            file.seek(0)
            other = torch.load(file, weights_only=False)
        served = mlp(x)
        with torch.no_grad():
            for parameter in other.parameters():
                parameter.mul_(0.0)
        assert torch.equal(other(x), torch.zeros(3, 8))
        assert torch.equal(mlp(x), served)
        with attach(other) as attachment:
            assert not attachment.left
            assert torch.equal(other(x), torch.zeros(3, 8))


def test_attachments_are_not_copied(mlp):
    with attach(mlp) as attachment, pytest.raises(TypeError, match="attach the copy"):
        pickle.dumps(attachment)


def test_a_shared_layer_is_one_matrix():
    shared = nn.Linear(16, 16)
    model = nn.Sequential(shared, nn.ReLU(), shared).eval()
    x = torch.randn(3, 16)
    with torch.no_grad():
        wanted = model(x)
        with attach(model) as attachment:
            assert list(attachment.engines) == ["0.weight"]
            assert close(model(x), wanted)
        assert torch.equal(model(x), wanted)


def test_a_model_that_is_one_layer():
    model = nn.Linear(5, 3, bias=False).eval()
    x = torch.randn(4, 5)
    with torch.no_grad():
        wanted = model(x)
        with attach(model, consistent="model") as attachment:
            assert list(attachment.engines) == ["weight"]
            assert close(model(x), wanted)
    assert "forward" not in vars(model)


def test_twice_is_refused(mlp):
    with (
        attach(mlp.layers[1]),
        pytest.raises(regrain.AttachError, match=r"tensor 'layers.1.weight': it must not be at"),
    ):
        attach(mlp)
    attach(mlp).detach()
    attach(mlp).detach()


def test_detaching_twice_does_nothing(mlp):
    attachment = attach(mlp)
    attachment.detach()
    with attach(mlp):
        attachment.detach()
        assert "forward" in vars(mlp.layers[0])


def test_training_is_refused(mlp):
    x = torch.randn(2, 40)
    with pytest.raises(regrain.AttachError, match=r"must be in eval mode: call model.eval\(\) first"):
        attach(mlp.train())
    with attach(mlp.eval()):
        with pytest.raises(
            regrain.ServingError, match=r"layers.0 gives no gradients while it is served: call the model u"
        ):
            mlp(x)
        mlp.train()
        with (
            torch.no_grad(),
            pytest.raises(regrain.ServingError, match=r"layers.0 must be in eval mode while it is serv"),
        ):
            mlp(x)
    mlp(x).sum().backward()  # as before


def test_frozen_models_need_no_context(mlp):
    mlp.requires_grad_(False)
    x = torch.randn(2, 40)
    wanted = mlp(x)
    with attach(mlp):
        assert close(mlp(x), wanted)
        with pytest.raises(regrain.ServingError, match="gives no gradients"):
            mlp(x.requires_grad_())


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_models_of_other_types_go_on_as_they_were(mlp, dtype):
    mlp.to(dtype)
    x = torch.randn(2, 40, dtype=dtype)
    with torch.no_grad():
        wanted = mlp(x)
        with pytest.warns(RuntimeWarning, match="no layer of the model can be served: layers.0 goes on as it is"):
            attachment = attach(mlp)
        with attachment:
            assert torch.equal(mlp(x), wanted)
            assert attachment.left["layers.0"] == f"its weight is {str(dtype)[6:]}, not float32"
            assert not attachment.engines


def test_what_changes_later_goes_on_with_the_original_and_is_said_once(mlp):
    x = torch.randn(2, 40)
    with torch.no_grad(), attach(mlp):
        double = copy.deepcopy(mlp).double()
        mlp.double()
        with pytest.warns(RuntimeWarning, match="goes on without regrain where its input is float64") as told:
            found = mlp(x.double())
        assert len(told) == 3
        assert torch.equal(found, double(x.double()))
        mlp(x.double())  # without a warning


def test_new_weights_are_used(mlp):
    x = torch.randn(2, 40)
    with torch.no_grad(), attach(mlp):
        mlp.layers[1].weight.mul_(2.0)
        with pytest.warns(RuntimeWarning, match="layers.1 goes on without regrain where its weight has changed"):
            found = mlp(x)
    with torch.no_grad():
        assert close(found, mlp(x))


def test_autocast_goes_on(mlp):
    x = torch.randn(2, 40)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        wanted = mlp(x)
        with attach(mlp), pytest.warns(RuntimeWarning, match="where autocast is on"):
            found = mlp(x)
    assert found.dtype is torch.bfloat16
    assert torch.equal(found, wanted)


def test_wrong_inputs_get_torchs_own_error(mlp):
    with attach(mlp), torch.no_grad():
        for x in (torch.randn(2, 41), torch.tensor(1.0)):
            with pytest.raises((RuntimeError, IndexError)):
                mlp(x)
        with pytest.raises(TypeError, match="must be Tensor"):
            mlp.layers[0](3.0)


def test_tracing_and_transforms_see_the_original(mlp):
    x = torch.randn(4, 40)
    with torch.no_grad():
        wanted = mlp(x)
        with attach(mlp):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of torch.jit
                traced = torch.jit.trace(mlp, x)
            assert close(torch.vmap(mlp)(x), wanted)
            assert close(torch.compile(mlp, backend="eager", fullgraph=True)(x), wanted)
            assert close(torch.fx.symbolic_trace(mlp)(x), wanted)
    assert close(traced(2 * x), mlp(2 * x))


def test_numbers_that_are_none_stay_in_their_rows(mlp):
    x = torch.randn(20, 40)
    x[3, 5], x[7, 0], x[9, 1] = torch.nan, torch.inf, -torch.inf
    with torch.no_grad():
        wanted = mlp.layers[0](x)
        with attach(mlp):
            found = mlp.layers[0](x)
    assert torch.equal(found.isnan(), wanted.isnan())
    assert close(found.nan_to_num(), wanted.nan_to_num())


def test_layers_with_a_forward_of_their_own_are_left():
    class Scaled(nn.Linear):
        def forward(self, x):
            return 2.0 * super().forward(x)

    model = nn.Sequential(Scaled(8, 8), nn.utils.parametrizations.weight_norm(nn.Linear(8, 8)), nn.Linear(8, 8)).eval()
    model[2].forward = lambda x: x
    model.append(nn.Linear(8, 8))
    with attach(model) as attachment:
        assert attachment.left == {
            "0": "its class Scaled has a forward of its own",
            "1": "its class ParametrizedLinear has a forward of its own"
            if type(model[1]).forward is not nn.Linear.forward
            else "its weight is parametrized",
            "2": "something else has replaced its forward",
        }


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"policy": "best"}, "policy must be one of static, "),
        ({"value": "i2"}, "value must be None or one of f32, f16, i8, i4, not 'i2'"),
        ({"consistent": True}, "consistent must be 'layer' or 'model', not True"),
        ({"threads": 0}, "threads must be a whole number of at least 1 or None, not 0"),
    ],
)
def test_bad_options(mlp, options, text):
    with pytest.raises(ValueError, match=text):
        attach(mlp, **options)
    assert "forward" not in vars(mlp.layers[0])


def test_errors_survive_a_pickle():
    error = pickle.loads(pickle.dumps(regrain.AttachError("shape must be other", tensor="a.weight")))
    assert (str(error), error.tensor) == ("tensor 'a.weight': shape must be other", "a.weight")
    assert str(regrain.AttachError("model must be another")) == "model must be another"
    assert issubclass(regrain.AttachError, (regrain.RegrainError, ValueError))
    assert issubclass(regrain.ServingError, (regrain.RegrainError, RuntimeError))
