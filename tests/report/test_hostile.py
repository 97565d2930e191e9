"""Names and values that want to be more than text: a receipt comes out of a file that a stranger may have written."""

import contextlib
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from regrain import CorruptArtifactError
from regrain.pipelines.report import render
from regrain.pipelines.report.markup import pretty_json

from .receipts import pruned, receipt

ATTACKS = [
    "</script><img src=x onerror=alert(1)>",
    "<!--<script>",
    "]]></style><svg onload=alert(1)>",
    "\"'><b onmouseover=alert(1) x='",
    "$data ${script} %s {0}",
    "\u2028\u2029\u202e\x00\ud800",
    "&lt;i&gt;&amp;",
]

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


def poisoned(value, attack):
    """Every string, and every key of an open-ended object, replaced."""
    if isinstance(value, str):
        return value if value in ("lossy", "met") else attack
    if isinstance(value, list):
        return [poisoned(item, attack) for item in value]
    if isinstance(value, dict):
        opened = {"metrics", "phases", "statistics", "layers", "recipe"}
        return {
            key: dict.fromkeys([attack], poisoned(next(iter(inner.values())), attack))
            if key in opened and isinstance(inner, dict)
            else poisoned(inner, attack)
            for key, inner in value.items()
        }
    return value


@pytest.mark.parametrize("attack", ATTACKS)
def test_no_text_becomes_markup(parse, attack):
    harmless = parse(render(poisoned(receipt(), "harmless"), title="harmless"))
    attacked = parse(render(poisoned(receipt(), attack), title=attack))
    assert [tag for tag, _ in attacked.tags] == [tag for tag, _ in harmless.tags]
    assert [set(attributes) for _, attributes in attacked.tags] == [set(attributes) for _, attributes in harmless.tags]
    assert attacked.sources["script"][1] == harmless.sources["script"][1]
    assert set(attacked.data["layers"]["name"]) == {attack}
    assert attacked.data["frontier"][0]["metrics"].keys() == {attack}
    if attack.isprintable():
        assert attack in attacked.text


@given(st.text())
@settings(max_examples=40)
def test_any_name_arrives_as_it_is(name):
    from .conftest import Parsed

    page = Parsed(render({"sizes": {"original": 1, "artifact": 1}, "layers": [{"name": name}]}, title=name))
    assert page.data["layers"]["name"] == [name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sizes": []}, "receipt.sizes must be an object, not list"),
        ({"sizes": {"original": -1, "artifact": 1}}, "receipt.sizes.original must be a whole number from 0 on, not -1"),
        ({"outcome": 3}, "receipt.outcome must be a string, not 3"),
        ({"layers": {"a": 1}}, "receipt.layers must be a list, not dict"),
        ({"layers": [1]}, "receipt.layers[0] must be an object, not 1"),
        ({"layers": [{}]}, "receipt.layers must have a name each"),
        ({"layers": [{"name": "x", "bits": "4"}]}, "receipt.layers[0].bits must be a number, not '4'"),
        ({"layers": [{"name": "x", "shape": [1, None]}]}, "receipt.layers[0].shape[1] must be a number, not None"),
        ({"judgement": [{"ok": 1}]}, "receipt.judgement[0].ok must be true or false, not 1"),
        ({"judgement": [{"checks": [1]}]}, "receipt.judgement[0].checks[0] must be a string, not 1"),
        ({"predicted_frontier": [1]}, "receipt.predicted_frontier[0] must be a list, not 1"),
        (
            {"predicted_frontier": [[1, 2, 3]]},
            "receipt.predicted_frontier must have pairs of a size and a loss",
        ),
        ({"seed": 2**63}, f"receipt.seed must be a number that is finite and below 2^63, not {2**63}"),
        ({"cost": {"phases": {"a": True}}}, "receipt.cost.phases.a must be a number, not True"),
        (
            {"layers": [{"name": "x", "histogram": {"edges": [0, 1, 2, 3], "counts": [1, 2]}}]},
            "receipt.layers: histogram must have counts from 0 on and one edge more than counts, "
            "not 4 edges and 2 counts",
        ),
    ],
)
def test_what_is_wrong_is_named(minilm, change, message):
    with pytest.raises(CorruptArtifactError) as caught:
        render(minilm | change)
    assert str(caught.value) == message


@given(st.data())
@settings(max_examples=200)
def test_any_value_anywhere_is_shown_or_refused(data):
    """One value of a whole receipt, at any depth, becomes something else."""
    from .conftest import Parsed

    whole = pruned(receipt([("a.weight", [8, 8]), ("a.bias", [8])]))
    place, key = whole, data.draw(st.sampled_from(sorted(whole)))
    while True:
        inner = place[key]
        keys = sorted(inner) if isinstance(inner, dict) else range(len(inner)) if isinstance(inner, list) else ()
        if not keys or data.draw(st.booleans()):
            break
        place, key = inner, data.draw(st.sampled_from(list(keys)))
    place[key] = data.draw(VALUES)
    with contextlib.suppress(CorruptArtifactError):  # anything else that is raised fails the test
        assert Parsed(render(whole)).data["limits"].keys() == {"drops", "loss", "bits", "work"}


def test_deep_nesting_is_refused(minilm):
    nested = {}
    for _ in range(100_000):
        nested = {"a": nested}
    with pytest.raises(CorruptArtifactError, match="^receipt must be nested less deeply$"):
        render(minilm | {"recipe": nested})


@given(st.dictionaries(st.text(), VALUES), st.integers(0, 60))
def test_pretty_json_says_the_same(value, width):
    assert json.dumps(json.loads(pretty_json(value, width))) == json.dumps(value)
