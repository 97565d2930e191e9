"""Jobs within a budget, end to end on a tiny task: exit codes, what is printed, JSON, recipes, replay, profiles."""

import json
import runpy
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import regrain
import regrain.numpy
from regrain.core.recipe import parse_recipe
from regrain.pipelines.measured import measured_path

TASK = Path(__file__).with_name("tiny.py")


@pytest.fixture
def tiny(trained, tmp_path):
    """A copy of the model in a folder of its own, where its measurements go."""
    return Path(shutil.copy(trained, tmp_path / "model.safetensors"))


@pytest.fixture
def job(run):
    """Run a verb on a model with the task; the text is made one line."""

    def execute(verb, model, *options, code=0, task=TASK):
        result = run(verb, model, "--task", task, "--threads", "1", *options, width=120)
        assert result.exit_code == code, result.output
        return result

    return execute


def text(result):
    return " ".join(result.stdout.split())


@pytest.fixture
def artifact(tiny, job):
    job("compress", tiny, "--max-drop", "1%")
    return tiny.with_name("model.regrain.safetensors")


def test_the_main_job(tiny, job):
    printed = text(job("compress", tiny, "--max-drop", "1%"))
    for words in (
        "of memory",
        "times smaller",
        "✓ within a drop of 1.00 %, with 95 % confidence",
        "accuracy 0.97",
        "KL",
        "top-1 agreement",
        "0.weight",
        "a batch takes",
        "loads in",
        "took",
        "report: regrain report",
        "again: regrain compress model.safetensors --task tiny.py --max-drop 0.01",
    ):
        assert words in printed, words  # fmt: skip
    found = regrain.inspect(tiny.with_name("model.regrain.safetensors"))
    assert not found.files[0].lossless
    assert found.files[0].receipt["outcome"] == "met"
    assert regrain.verify(found.path, tiny).differences


def test_json_is_all_of_it(tiny, job):
    result = job("compress", tiny, "--max-drop", "1%", "--json")
    assert result.stdout.count("\n") == 1
    found = json.loads(result.stdout)
    assert found["outcome"] == "met"
    assert found["receipt"]["budget"]["max_drop"] == 0.01
    assert found["measured"]["cost"]["seconds"] > 0
    assert all(judgment["checks"] for judgment in found["receipt"]["judgement"])
    assert found["receipt"]["sizes"]["artifact"] > 0


def test_the_same_job_writes_the_same_bytes(tiny, artifact, job):
    before = artifact.read_bytes()
    again = tiny.with_name("again.safetensors")
    job("compress", tiny, "--max-drop", "1%", "--work", tiny.parent / "elsewhere", "--threads", "2", "-o", again)
    assert again.read_bytes() == before
    job("compress", tiny, "--max-drop", "1%", "--fresh", "-o", again, "--force")
    assert again.read_bytes() == before


def test_another_budget_measures_nothing_again(tiny, artifact, job):
    [store] = (tiny.parent / ".regrain").iterdir()
    before = {path: path.stat().st_mtime_ns for path in store.glob("factors-*/value.json")}
    job("compress", tiny, "--max-drop", "5%", "--resume", "-o", tiny.with_name("b.safetensors"))
    assert before and before == {path: path.stat().st_mtime_ns for path in store.glob("factors-*/value.json")}


def test_a_budget_of_nothing_is_lossless(tiny, job):
    printed = text(job("compress", tiny, "--max-drop", "0"))
    assert "lossless: the search found nothing smaller that keeps a drop of 0.00 %" in printed
    assert regrain.inspect(tiny.with_name("model.regrain.safetensors")).files[0].lossless


def test_a_size_is_kept(tiny, job):
    assert "quality is reported, not limited" in text(job("compress", tiny, "--max-size", "5kB"))
    assert tiny.with_name("model.regrain.safetensors").stat().st_size <= 5000


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        (["--max-size", "100"], "size must be at least about"),
        (["--max-drop", "1%", "--max-size", "2kB"], "no recipe keeps both limits: the smallest that keeps quality has"),
    ],
)
def test_limits_that_cannot_be_met_exit_with_3(tiny, job, limits, words):
    assert words in job("compress", tiny, *limits, code=3).stderr
    assert not tiny.with_name("model.regrain.safetensors").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--max-drop", "1%"], "a limit must be given with --task"),
        (["--fresh"], "--fresh must be given with --task"),
        (["--task", TASK], "--task must be given with a limit, such as --max-drop 1%, or with --recipe"),
        (["--task", TASK, "--max-drop", "much"], "max_drop must be a fraction such as 1% or 0.01, not 'much'"),
        (["--task", TASK, "--max-drop", "1"], "max_drop must be a fraction from 0 to below 1, as 0.01 or 1%, not 1.0"),
        (["--task", TASK, "--max-size", "-5"], "max_size must be a size such as 12MB, 500kB or 1.5GB, not '-5'"),
        (["--task", TASK, "--bits", "0"], "bits must be a positive number of bits per weight, not 0.0"),
        (["--task", TASK, "--min-fidelity", "2"], "min_fidelity must be 0 to 1, as 0.995, not 2.0"),
        (["--task", TASK, "--bits", "3", "--confidence", "1"], "confidence must be from 0.5 to below 1, not 1.0"),
        (["--task", TASK, "--bits", "3", "--cells", "tensor,rows"], "cell must be tensor, row, column, group:N"),
        (["--task", TASK, "--bits", "3", "--resume", "--fresh"], "--resume and --fresh must not be given together"),
        (["--task", TASK, "--recipe", "r.json", "--cells", "row"], "--cells must not be given with --recipe"),
    ],
)
def test_wrong_usage_exits_with_2(run, options, words):
    result = run("compress", "model.safetensors", *options, width=200)
    assert result.exit_code == 2
    assert words in " ".join(result.stderr.replace("│", " ").split())


def test_a_task_that_fails_says_where(tiny, job, tmp_path):
    bad = tmp_path / "bad.py"
    bad.write_text("def load_model():\n    raise KeyError('weights')\ndef inputs(split): ...\ndef output(m, b): ...\n")
    result = job("compress", tiny, "--max-drop", "1%", code=1, task=bad)
    assert "task 'bad': load_model() failed at bad.py, line 2: KeyError: 'weights'" in result.stderr


def test_nothing_to_resume(tiny, job):
    assert "there must be something to resume" in job("compress", tiny, "--bits", "9", "--resume", code=1).stderr


# ---- recipes -------------------------------------------------------------------------------------------------------


@pytest.fixture
def recipe(tiny, job):
    path = tiny.with_name("recipe.json")
    job("plan", tiny, "--max-drop", "1%", "-o", path)
    return path


def test_plan_shows_the_frontier(tiny, job, recipe):
    printed = text(job("plan", tiny, "--max-drop", "1%"))
    assert "KL predicted" in printed and "accuracy drop" in printed and "lossless" in printed and "→" in printed
    assert "bits per weight: 3 of 4 tensors quantized" in printed
    found = json.loads(job("plan", tiny, "--max-drop", "1%", "--json").stdout)
    assert found["recipe"] == json.loads(recipe.read_text())
    best = found["points"][found["best"]]
    assert best["ok"] and best["bytes"] == found["bytes"] == min(p["bytes"] for p in found["points"] if p["ok"])
    assert all(layer["why"] for layer in found["recipe"]["layers"].values())
    assert not tiny.with_name("model.regrain.safetensors").exists()


def test_a_recipe_is_replayed_and_may_be_edited(tiny, job, recipe):
    out = tiny.with_name("out.safetensors")
    job("compress", tiny, "--recipe", recipe, "--max-drop", "3%", "-o", out)
    steps = {layer.name: layer.step or 0.0 for layer in parse_recipe(recipe.read_text()).layers}
    made = regrain.inspect(out).files[0].receipt
    assert {name: plan.get("step", 0.0) for name, plan in made["recipe"].items()} == pytest.approx(steps, rel=1e-5)
    document = json.loads(recipe.read_text())
    document["layers"]["0.weight"] = {"method": "lossless"}
    recipe.write_text(json.dumps(document))
    printed = text(job("compress", tiny, "--recipe", recipe, "-o", out, "--force"))
    assert "quality is reported, not limited" in printed
    assert printed.endswith("regrain compress model.safetensors --task tiny.py --recipe recipe.json --seed 0")
    original = safetensors.numpy.load_file(tiny)
    assert regrain.numpy.load_file(out)["0.weight"].tobytes() == original["0.weight"].tobytes()
    assert regrain.numpy.load_file(out)["2.weight"].tobytes() != original["2.weight"].tobytes()


def test_a_recipe_that_breaks_the_budget_is_refused(tiny, job, recipe):
    document = json.loads(recipe.read_text())
    for layer in document["layers"].values():
        if "step" in layer:
            layer["step"] *= 16
    recipe.write_text(json.dumps(document))
    out = tiny.with_name("out.safetensors")
    result = job("compress", tiny, "--recipe", recipe, "--max-drop", "1%", "-o", out, code=3)
    assert "the recipe must keep the budget on held-out data" in result.stderr
    assert not out.exists()


def test_a_recipe_without_a_task_rounds_to_the_nearest(tiny, run, tmp_path):
    recipe, out = tmp_path / "recipe.json", tmp_path / "out.safetensors"
    recipe.write_text('{"recipe": 1, "layers": {"0.weight": {"method": "quantize", "cell": "tensor", "step": 0.125}}}')
    result = run("compress", tiny, "--recipe", recipe, "-o", out)
    assert result.exit_code == 0, result.output
    assert "4 tensors: 1 quantized" in result.stdout and "nothing was measured" in result.stdout
    original, found = safetensors.numpy.load_file(tiny), regrain.numpy.load_file(out)
    assert np.array_equal(found["0.weight"], np.rint(original["0.weight"] / 0.125) * np.float32(0.125))
    assert all(np.array_equal(found[name], original[name]) for name in ("0.bias", "2.weight", "2.bias"))
    assert regrain.inspect(out).files[0].receipt["outcome"] == "replayed"


def test_twins_are_replayed_alike(tmp_path):
    weights = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32)
    safetensors.numpy.save_file({"a": weights, "b": weights.copy(), "ids": np.arange(9)}, tmp_path / "m.safetensors")
    steps = parse_recipe('{"recipe": 1, "layers": {"a": {"method": "quantize", "cell": "row", "step": 0.5}}}')
    found = regrain.numpy.load_file(regrain.compress(tmp_path / "m.safetensors", recipe=steps).path)
    assert found["a"].tobytes() == found["b"].tobytes() != weights.tobytes()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ('{"recipe": 1, "layers": {"fc": {"method": "lossless"}}}', "which has no tensor 'fc'"),
        ('{"recipe": 2}', 'recipe must be a JSON object with "recipe": 1'),
        ("[", "recipe must be JSON"),
        (
            '{"recipe": 1, "layers": {"0.weight": {"method": "quantize", "cell": "tensor", "step": 1e-30}}}',
            "'0.weight': ",
        ),
    ],
)
def test_a_recipe_that_does_not_fit(tiny, run, tmp_path, text, words):
    (tmp_path / "recipe.json").write_text(text)
    result = run("compress", tiny, "--recipe", tmp_path / "recipe.json", "-o", tmp_path / "out.safetensors")
    assert (result.exit_code, words in result.stderr) == (1, True), result.output
    assert not (tmp_path / "out.safetensors").exists()


# ---- looking at what came of it ------------------------------------------------------------------------------------


def test_eval(tiny, artifact, job):
    alone = text(job("eval", artifact))
    assert "on held_out data of task 'tiny'" in alone and "accuracy 0.97" in alone
    beside = text(job("eval", artifact, "--against", tiny, "--split", "search"))
    assert "on search data" in beside and "top-1 agreement" in beside and "at most" in beside
    found = json.loads(job("eval", artifact, "--against", tiny, "--json").stdout)
    receipt = regrain.inspect(artifact).files[0].receipt
    [last] = [judgment for judgment in receipt["judgement"] if judgment["accepted"]]
    assert found["drops"]["accuracy"]["after"] == pytest.approx(last["metrics"][0]["after"], rel=1e-5)
    assert found["fidelity"]["kl"] == pytest.approx(last["fidelity"]["kl"], rel=1e-4)
    same = json.loads(job("eval", tiny, "--against", tiny, "--json").stdout)
    assert same["fidelity"]["kl"] == 0.0 and same["drops"]["accuracy"]["drop"] == 0.0


def test_eval_needs_something_to_tell(tiny, job, tmp_path):
    bare = tmp_path / "bare.py"
    bare.write_text(TASK.read_text().replace("def evaluate", "def _evaluate"))
    assert "must have evaluate() to evaluate a model alone" in job("eval", tiny, code=1, task=bare).stderr
    assert "top-1 agreement 100.0 %" in text(job("eval", tiny, "--against", tiny, task=bare))


def test_profile_with_a_task(tiny, job):
    printed = text(job("profile", tiny))
    assert "Fisher/w" in printed and "in var" in printed and "in range" in printed
    found = {tensor["name"]: tensor for tensor in json.loads(job("profile", tiny, "--json").stdout)["tensors"]}
    points = runpy.run_path(str(TASK))["data"]("calibration")[0].numpy()
    activity = found["0.weight"]["activity"]
    assert activity["positions"] == len(points)
    assert np.allclose(activity["mean"], points.mean(0), atol=1e-5)
    assert np.allclose(activity["variance"], points.var(0), atol=1e-4)
    assert np.allclose([activity["least"], activity["most"]], [points.min(0), points.max(0)])
    covariance = np.cov(points.T, bias=True)
    assert activity["trace"] == pytest.approx(np.trace(covariance), rel=1e-4)
    assert activity["effective_rank"] == pytest.approx(np.trace(covariance) ** 2 / (covariance**2).sum(), rel=1e-3)
    assert activity["sensitivity"] > 0
    assert found["0.bias"]["activity"]["mean"] == []


def test_the_report_shows_what_was_measured_here(artifact, run, tmp_path):
    measured = measured_path(artifact)
    assert json.loads(measured.read_text()).keys() == {"cost", "latency", "restores", "threads"}

    def page():
        assert run("report", artifact, "-o", tmp_path / "report.html", "--force").exit_code == 0
        return (tmp_path / "report.html").read_text()

    first = page()
    measured.write_text(measured.read_text().replace('"restores": [\n  "', '"restores": [\n  "0'))
    assert page() != first  # another artifact's figures are left out
    without = page()
    measured.unlink()
    assert page() == without


def test_in_python(tiny, artifact, tmp_path):
    out = tmp_path / "python.safetensors"
    result = regrain.compress(tiny, out, task=TASK, max_drop="1%", threads=1)
    assert out.read_bytes() == artifact.read_bytes()
    assert result.artifact.nbytes == len(artifact.read_bytes())
    planned = regrain.plan(tiny, task=TASK, max_drop=0.01, threads=1)
    assert planned.nbytes <= result.artifact.nbytes
    assert regrain.evaluate(out, task=TASK, threads=1).metrics["accuracy"] > 0.95
    for wrong, words in (({"max_drop": "1%"}, "a task must be given"), ({"task": TASK}, "a limit or a recipe must")):
        with pytest.raises(regrain.BudgetError, match=words):
            regrain.compress(tiny, out, force=True, **wrong)


def test_a_seed_is_refused_before_anything_is_measured(tiny, job):
    job("compress", tiny, "--bits", "20", "--seed", "-1", code=2)
    with pytest.raises(regrain.BudgetError, match="seed must be"):
        regrain.compress(tiny, task=TASK, bits=20, seed=-1)
    assert not (tiny.parent / ".regrain").exists()


def test_a_size_is_kept_by_all_shards_together(tiny, job, tmp_path):
    weights = list(safetensors.numpy.load_file(tiny).items())
    folder = tmp_path / "shards"
    folder.mkdir()
    names = ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    for name, part in zip(names, (weights[:2], weights[2:]), strict=True):
        safetensors.numpy.save_file(dict(part), folder / name)
    where = {key: names[number >= 2] for number, (key, _) in enumerate(weights)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    job("compress", folder, "--max-size", "7kB", "-o", tmp_path / "small")
    assert sum(path.stat().st_size for path in (tmp_path / "small").glob("*.regrain.safetensors")) <= 7000
