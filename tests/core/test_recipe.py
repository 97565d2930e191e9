"""Recipes: what is written is read back, and nothing else than a recipe is read."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from regrain import RecipeError
from regrain.core.granularity import Granularity
from regrain.core.pattern import Compensation, Pattern, Pruning, Score
from regrain.core.recipe import Cell, LayerPlan, Method, Recipe, parse_recipe

CELLS = st.one_of(
    st.sampled_from(["tensor", "row", "column"]),
    st.integers(1, 10**9).map("group:{}".format),
    st.tuples(st.integers(1, 10**9), st.integers(1, 10**9)).map(lambda size: f"block:{size[0]}x{size[1]}"),
)
SIZES = st.integers(0, 10**12).map(float)
LOSSES = st.integers(0, 9999).map(lambda digits: digits / 1e7)


PATTERNS = st.one_of(
    st.sampled_from(["fine", "column", "row"]),
    st.tuples(st.integers(1, 99), st.integers(1, 99)).filter(lambda n: n[0] < n[1]).map(lambda n: f"{n[0]}:{n[1]}"),
    st.tuples(st.integers(1, 99), st.integers(1, 999_999)).map(lambda size: f"block:{size[0]}x{size[1]}"),
)


@st.composite
def prunings(draw: st.DrawFn) -> Pruning:
    if draw(st.booleans()):
        return Pruning(Pattern("row"), follows=draw(st.text(max_size=9)))
    pattern = Pattern(draw(PATTERNS))
    among = pattern.among
    density = draw(st.floats(0, 1, exclude_min=True)) if among is None else among[0] / among[1]
    return Pruning(pattern, density, draw(st.sampled_from(Score)), draw(st.sampled_from(Compensation)))


@st.composite
def plans(draw: st.DrawFn, name: str) -> LayerPlan:
    told = {"bytes": draw(SIZES), "loss": draw(LOSSES), "why": draw(st.text(max_size=20))}
    if draw(st.booleans()):
        return LayerPlan(name, Method.LOSSLESS, **told)
    if draw(st.booleans()):
        return LayerPlan(name, Method.PRUNE, pruning=draw(prunings()), **told)
    told["pruning"] = draw(st.none() | prunings())
    step = draw(st.floats(2.0**-126, 2.0**127, exclude_max=True))
    dead_zone = draw(st.floats(0, 0.5, exclude_max=True))
    return LayerPlan(name, Method.QUANTIZE, Cell(draw(CELLS)), step, dead_zone, **told)


@st.composite
def recipes(draw: st.DrawFn) -> Recipe:
    names = draw(st.lists(st.text(max_size=10), unique=True, max_size=4))
    note = draw(
        st.dictionaries(st.text(max_size=5), st.one_of(st.none(), st.integers(), st.text(max_size=5)), max_size=3)
    )
    return Recipe(tuple(draw(plans(name)) for name in names), draw(st.text(max_size=64)), note)


@given(recipes())
def test_what_is_written_is_read_back(recipe: Recipe) -> None:
    assert parse_recipe(recipe.text()) == recipe
    assert json.loads(recipe.text()) == recipe.to_json()


@given(recipes())
def test_each_tensor_has_a_line_of_its_own(recipe: Recipe) -> None:
    lines = [line for line in recipe.text().splitlines() if line.startswith('  "') and '"method"' in line]
    assert len(lines) == len(recipe.layers)


def whole(**changes: object) -> str:
    layer = {"method": "quantize", "cell": "row", "step": 0.5} | changes
    return json.dumps({"recipe": 1, "layers": {"a": {key: value for key, value in layer.items() if value is not ...}}})


def test_the_least_recipe() -> None:
    assert parse_recipe('{"recipe": 1, "layers": {}}') == Recipe(())
    plan = parse_recipe(whole()).plan("a")
    assert plan == LayerPlan("a", Method.QUANTIZE, Cell("row"), 0.5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "pruned"}, "'a': method must be lossless or prune or quantize, not 'pruned'"),
        ({"method": "prune"}, "'a': a pruned tensor must have a pruning: a pattern and a density"),
        ({"method": ...}, "'a': method must be lossless or prune or quantize, not None"),
        ({"method": ["quantize"]}, "'a': method must be lossless or prune or quantize, not "),
        ({"method": "lossless"}, "'a': a lossless tensor must have neither cell nor step: leave them out"),
        ({"cell": ...}, "'a': a quantized tensor must have a cell and a step"),
        ({"step": ...}, "'a': a quantized tensor must have a cell and a step"),
        ({"cell": "rows"}, "cell must be tensor, row, column, group:N or block:RxC, not 'rows'"),
        ({"cell": "group:0"}, "cell must be .*, not 'group:0'"),
        ({"cell": "group:-4"}, "cell must be .*, not 'group:-4'"),
        ({"cell": "group:٣"}, "cell must be"),
        ({"cell": "group:" + "9" * 5000}, "cell must be"),
        ({"cell": "block:16"}, "cell must be .*, not 'block:16'"),
        ({"cell": "row\n"}, "cell must be"),
        ({"cell": [1, 32]}, r"cell must be .*, not \[1, 32\]"),
        ({"step": 0}, "'a': step must be a positive normal number, not 0.0"),
        ({"step": -0.5}, "'a': step must be a positive normal number, not -0.5"),
        ({"step": 1e-40}, "'a': step must be a positive normal number, not 1e-40"),
        ({"step": 1e300}, r"'a': step must be a positive normal number, not 1e\+300"),
        ({"step": 10**400}, "'a': step must be a finite number, not 1000"),
        ({"step": math.nan}, "'a': step must be a finite number, not nan"),
        ({"step": math.inf}, "'a': step must be a finite number, not inf"),
        ({"step": "0.5"}, "'a': step must be a finite number, not '0.5'"),
        ({"step": True}, "'a': step must be a finite number, not True"),
        ({"dead_zone": 0.5}, "'a': dead_zone must be from 0 to below 0.5, not 0.5"),
        ({"dead_zone": -0.1}, "'a': dead_zone must be from 0 to below 0.5, not -0.1"),
        ({"loss": None}, "'a': loss must be a finite number, not None"),
        ({"bits": 4}, "'a': field must be one of .*, not 'bits'"),
    ],
)
def test_malformed_plans(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(whole(**changes))


def pruned(**changes: object) -> str:
    pruning = {"pattern": "column", "density": 0.5} | changes
    return whole(pruning={key: value for key, value in pruning.items() if value is not ...})


def test_the_least_pruning() -> None:
    expected = Pruning(Pattern("column"), 0.5, Score.OBS, Compensation.LEAST_SQUARES)
    quantized = LayerPlan("a", Method.QUANTIZE, Cell("row"), 0.5, pruning=expected)
    assert parse_recipe(pruned()).plan("a") == quantized
    assert parse_recipe(pruned(follows=None, score="obs")).plan("a") == quantized
    text = whole(method="prune", cell=..., step=..., pruning={"pattern": "row", "follows": "b"})
    assert parse_recipe(text).plan("a") == LayerPlan("a", Method.PRUNE, pruning=Pruning(Pattern("row"), follows="b"))
    assert parse_recipe(whole(pruning=None)).plan("a").pruning is None


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pattern": ...}, "'a': pruning: pattern must be fine, N:M with N < M, .*, not None"),
        ({"pattern": "4:2"}, "'a': pruning: pattern must be .*, not '4:2'"),
        ({"pattern": ["row"]}, r"'a': pruning: pattern must be .*, not \['row'\]"),
        ({"density": ...}, r"'a': pruning: density must be a fraction above 0 to 1 \(what is kept\), not None"),
        ({"density": 0}, "'a': pruning: density must be a fraction above 0 to 1 .*, not 0.0"),
        ({"density": 1.5}, "'a': pruning: density must be a fraction above 0 to 1 .*, not 1.5"),
        ({"density": "half"}, "'a': density must be a finite number, not 'half'"),
        ({"density": True}, "'a': density must be a finite number, not True"),
        ({"density": math.nan}, "'a': density must be a finite number, not nan"),
        ({"pattern": "2:4", "density": 0.6}, "'a': pruning: density of 2:4 must be 2/4, not 0.6"),
        ({"score": "taylor"}, "'a': pruning: score must be obs or magnitude or wanda or variance, not 'taylor'"),
        ({"score": None}, "'a': pruning: score must be .*, not None"),
        ({"score": ["obs"]}, r"'a': pruning: score must be .*, not \['obs'\]"),
        ({"compensation": "some"}, "'a': pruning: compensation must be least-squares or .* or none, not 'some'"),
        ({"follows": "b"}, "'a': pruning: a pruning that follows another tensor must have the pattern row and no dens"),
        ({"pattern": "row", "follows": "b"}, "'a': pruning: a pruning that follows .* and no density"),
        (
            {"pattern": "row", "density": ..., "follows": "b", "score": "wanda"},
            "'a': pruning: a pruning that follows .* no density, score or compensation",
        ),
        ({"follows": 3}, "'a': pruning: follows must be a tensor's name, not 3"),
        ({"sparsity": 0.5}, "'a': pruning: field must be one of compensation, density, .*, not 'sparsity'"),
    ],
)
def test_malformed_prunings(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=f"^{message}"):
        parse_recipe(pruned(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"pruning": "column"}, "'a': pruning must be an object with a pattern, not 'column'"),
        ({"pruning": [0.5]}, r"'a': pruning must be an object with a pattern, not \[0.5\]"),
        (
            {"method": "lossless", "cell": ..., "step": ...},
            "'a': a lossless tensor must not be pruned: its method must",
        ),
        ({"method": "prune"}, "'a': a pruned, not quantized tensor must have neither cell nor step: leave them out"),
        (
            {"method": "prune", "cell": ...},
            "'a': a pruned, not quantized tensor must have neither cell nor step: leave them out",
        ),
    ],
)
def test_prunings_where_there_can_be_none(changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=f"^{message}"):
        parse_recipe(whole(**({"pruning": {"pattern": "column", "density": 0.5}} | changes)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "recipe must be JSON: Expecting value"),
        ("[" * 100_000, "recipe must be JSON: "),
        ("[1]", 'recipe must be a JSON object with "recipe": 1'),
        ('{"layers": {}}', 'recipe must be a JSON object with "recipe": 1'),
        ('{"recipe": 2, "layers": {}}', 'recipe must be a JSON object with "recipe": 1'),
        ('{"recipe": 1}', 'recipe must have "layers" by name'),
        ('{"recipe": 1, "layers": []}', 'recipe must have "layers" by name'),
        ('{"recipe": 1, "layers": {}, "model": 3}', '"model" must be text'),
        ('{"recipe": 1, "layers": {}, "note": "x"}', '"note" an object'),
        ('{"recipe": 1, "layers": {}, "budget": {}}', "recipe: field must be one of .*, not 'budget'"),
        ('{"recipe": 1, "layers": {"a": "lossless"}}', "'a' must be an object with a method, not 'lossless'"),
        ('{"recipe": 1, "layers": {"a": {"method": "lossless"}, "a": {}}}', "'a' must stand once, not 2 times"),
        ('{"recipe": 1, "recipe": 1, "layers": {}}', "'recipe' must stand once, not 2 times"),
    ],
)
def test_malformed_documents(text: str, message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        parse_recipe(text)


@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
    )
)
def test_any_json_is_a_recipe_or_an_error(value: object) -> None:
    fields = [whole(**{field: value}) for field in ("cell", "step", "pruning")]
    fields += [pruned(**{field: value}) for field in ("pattern", "density", "score", "compensation", "follows")]
    for text in (json.dumps(value), json.dumps({"recipe": 1, "layers": value}), *fields):
        try:
            parse_recipe(text)
        except RecipeError:
            continue


def test_names_stand_once() -> None:
    with pytest.raises(RecipeError, match="'a' must stand once, not 2 times"):
        Recipe((LayerPlan("a", Method.LOSSLESS), LayerPlan("a", Method.LOSSLESS)))


def test_a_recipe_of_another_model() -> None:
    recipe = parse_recipe(whole())
    recipe.check_names({"a", "b"})
    with pytest.raises(RecipeError, match=r"has no tensor 'a' \(1 of 1 are unknown\)"):
        recipe.check_names({"b"})


def test_tensors_without_a_plan_are_lossless() -> None:
    assert Recipe(()).plan("a") == LayerPlan("a", Method.LOSSLESS)


@pytest.mark.parametrize(
    ("name", "size", "granularity"),
    [
        ("tensor", (6, 10), Granularity.COARSE),
        ("row", (1, 10), Granularity.COARSE),
        ("column", (6, 1), Granularity.COARSE),
        ("group:4", (1, 4), Granularity.MEDIUM),
        ("group:40", (1, 10), Granularity.MEDIUM),
        ("block:4x8", (4, 8), Granularity.MEDIUM),
        ("block:40x8", (6, 8), Granularity.MEDIUM),
    ],
)
def test_cells(name: str, size: tuple[int, int], granularity: Granularity) -> None:
    assert Cell(name).size(6, 10) == size
    assert Cell(name).granularity is granularity
