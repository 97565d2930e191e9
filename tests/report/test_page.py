"""The page: what it says, what it needs, how large it is."""

import base64
import hashlib
import json
import re

import pytest

from regrain.accuracy.verdict import Check
from regrain.pipelines.report import render
from regrain.pipelines.report.layers import MOST_LAYERS

from .receipts import frontier, judgment, many, point, pruned, receipt

ONLY_SIZES = {"sizes": {"original": 1000, "artifact": 400}}


def test_the_verdict_is_one_sentence(minilm, parse):
    page = parse(render(minilm, title="minilm.regrain.safetensors"))
    assert page.title == "minilm.regrain.safetensors \N{EN DASH} regrain report"
    assert page.status == "Budget met"
    assert page.heading == (
        "22.7 million weights in 8.86 MB instead of 90.9 MB, 10.3\N{MULTIPLICATION SIGN} smaller; accuracy fell by "
        "0.3 % on 5,000 held-out examples, by at most 0.59 % (95 % confidence), where 1 % is allowed; "
        "the other metric holds too."
    )


@pytest.mark.parametrize(
    ("changes", "status", "words"),
    [
        (
            {"outcome": "lossless", "judgement": []},
            "Lossless",
            "with every bit kept: no recipe that was tried keeps the budget on the search data.",
        ),
        (
            {"outcome": "lossless", "judgement": [judgment(0.15, ok=False)]},
            "Lossless",
            "with every bit kept: even the safest recipe was not shown to keep the budget on held-out data "
            "(accuracy: 0.489 %, at most 0.78 % with 95 % confidence; over the limit of 1 %).",
        ),
        ({"mode": "plan"}, "Plan", "as predicted: nothing has been built or judged yet"),
        ({"mode": "lossless", "outcome": None}, "Lossless", "every bit is that of the original"),
        ({"outcome": None}, "Not judged", "the receipt has no verdict on held-out data"),
        ({"judgement": []}, "Not judged", "the receipt has no verdict on held-out data"),
    ],
)
def test_other_outcomes(minilm, parse, changes, status, words):
    page = parse(render(minilm | changes))
    assert page.status == status
    assert words in page.heading


@pytest.mark.parametrize(
    "judged",
    [
        [judgment(0.15, ok=False)],
        [judgment(0.15), judgment(0.3, ok=False)],
        [judgment(0.15, ok=False, accepted=True)],
    ],
)
def test_a_met_budget_is_believed_only_of_an_accepted_recipe(minilm, parse, judged):
    page = parse(render(minilm | {"judgement": judged}))
    assert page.status == "Not proven"
    assert page.heading.endswith("; no judgment shows that the budget is kept.")


def test_a_size_is_met_without_a_limit_of_quality(minilm, parse):
    judged = judgment(1.0, accepted=True) | {"ok": None, "checks": None}
    judged["metrics"] = [metric | {"limit": None} for metric in judged["metrics"]]
    page = parse(render(minilm | {"judgement": [judged], "budget": {"bits": 3.2}, "guard": None}))
    assert page.status == "Budget met"
    assert page.heading.endswith("accuracy fell by 0.4 % on 5,000 held-out examples, by at most 0.69 %.")


def test_improvements_and_metrics_to_be_lowered(minilm, parse):
    metric = {"name": "perplexity", "before": 20.0, "after": 20.1, "drop": 0.1, "upper": 0.15, "limit": 0.2, "n": 9}
    judged = {"ok": True, "accepted": True, "metrics": [metric | {"higher_is_better": False}]}
    text = parse(render(minilm | {"judgement": [judged]})).plain
    assert "perplexity rose by 0.5 % on 9 held-out examples, by at most 0.75 %" in text
    better = judged | {"metrics": [metric | {"name": "accuracy", "drop": -0.1}]}
    text = parse(render(minilm | {"judgement": [better]})).plain
    assert "accuracy rose by 0.5 % on 9 held-out examples, and fell by at most 0.75 %" in text


def test_without_metrics_fidelity_is_reported(minilm, parse):
    judged = judgment(0.7, accepted=True) | {"metrics": []}
    page = parse(render(minilm | {"judgement": [judged]}))
    assert page.heading.endswith(
        "outputs differ by D = 0.00399 on 1,024 held-out inputs, by at most 0.00406 (95 % confidence), "
        "where 0.005 is allowed."
    )


def test_of_logits_the_divergence_is_reported(minilm, parse):
    logits = {"kind": "logits", "n": 7000, "D": None, "kl": 0.00875, "kl_upper": 0.00892, "top1": 0.982}
    judged = {"ok": True, "accepted": True, "step": 1.0, "point": 4, "metrics": [], "fidelity": logits}
    task = {"name": "images", "kind": "logits"}
    page = parse(render(minilm | {"judgement": [judged], "task": task, "budget": {"min_fidelity": 0.99}}))
    assert page.heading.endswith(
        "outputs differ by a KL divergence of 0.00875 nats on 7,000 held-out inputs, by at most 0.00892, "
        "where 0.01 is allowed."
    )
    assert page.data["loss"] == "KL divergence, nats"
    assert "top-1 agreement" in page.plain


@pytest.mark.parametrize("key", sorted(receipt()))
def test_every_part_may_be_absent(minilm, parse, key):
    del minilm[key]
    if key == "sizes":
        with pytest.raises(ValueError, match=r"^receipt\.sizes must have original and artifact, in bytes$"):
            render(minilm)
    else:
        parse(render(minilm))
        minilm[key] = None
        parse(render(minilm))


def test_only_sizes_make_a_small_page(parse):
    page = parse(render(ONLY_SIZES, title="tiny"))
    hidden = {attributes["id"] for tag, attributes in page.tags if tag == "section" and "hidden" in attributes}
    assert hidden == {"frontier", "layers"}
    assert page.heading.startswith("0.000 MB instead of 0.001 MB, 2.50")
    assert page.data["layers"]["name"] == []


def test_the_sequence_is_one_table(minilm, parse):
    page = parse(render(minilm))
    rows = [attributes["class"] for tag, attributes in page.tags if tag == "tbody" and "class" in attributes]
    assert rows == ["held", "held", "held", "accepted", "failed"]
    text = page.plain
    assert "70 %accepted" in text
    assert "85 %fails" in text
    assert "accuracy0.00115 0.12 %0.00385 0.41 %0.0093 1 %" in text
    assert "D = 1 \N{MINUS SIGN} cosine0.0008550.000870.005" in text
    assert "Budget: a drop of at most 1 % of each metric; fidelity of at least 0.995." in text
    assert "The original: accuracy 0.93 on 5,000 held-out examples; spearman 0.8213 on 676 held-out examples." in text
    assert (
        "The sequence stops at the first recipe that can't be shown to keep the budget: "
        "accuracy: 0.715 %, at most 1.01 % with 95 % confidence; over the limit of 1 %."
    ) in text
    assert "each at the budget's full 95 % confidence" in text
    assert "the chance of a wrong result is 5 % at most" in text


def test_a_sequence_without_a_failure(minilm, parse):
    text = parse(render(minilm | {"judgement": [judgment(0.5), judgment(1.0, accepted=True)]})).plain
    assert "100 % point 4accepted" in text
    assert "Every recipe of the sequence held: the result is the best that the search found." in text


def test_a_single_recipe_is_no_sequence(minilm, parse):
    text = parse(render(minilm | {"judgement": [judgment(1.0, accepted=True)]})).plain
    assert "this recipe point 4accepted" in text
    assert "Every recipe" not in text
    assert "several recipes" not in text


def test_failed_checks_are_told_as_the_judge_words_them(minilm, parse):
    over = Check("accuracy", 0.004, 0.0065, 0.005, 0.95, relative=False)
    within = Check("KL", 0.004, 0.0065, 0.01, 0.95, relative=False)
    judged = judgment(0.15, ok=False) | {"checks": [str(within), str(over)]}
    page = parse(render(minilm | {"outcome": "lossless", "judgement": [judged]}))
    assert page.heading.endswith(f"({over}).")


def test_the_budget_becomes_lines_of_the_chart(minilm, parse):
    both = {"accuracy": 0.01, "spearman": 0.01}
    assert parse(render(minilm)).data["limits"] == {
        "drops": both,
        "loss": pytest.approx(0.005),
        "bits": None,
        "work": None,
    }
    by_size = parse(render(minilm | {"budget": {"max_bytes": 17_716_000}})).data["limits"]
    assert by_size == {"drops": {}, "loss": None, "bits": pytest.approx(2 * 3.12), "work": None}
    absolute = parse(render(minilm | {"budget": {"max_drop": 0.01, "max_drop_abs": 0.00465}})).data["limits"]
    assert absolute["drops"] == pytest.approx({"accuracy": 0.005, "spearman": 0.00465 / 0.8213})


def test_pruning_is_shown(minilm, parse):
    whole = pruned(minilm)
    page = parse(render(whole))
    rows = dict(zip(page.data["layers"]["name"], page.data["layers"]["kept"], strict=True))
    assert rows["encoder.layer.0.output.dense.weight"] == "column · 0.60"
    assert rows["encoder.layer.0.attention.self.query.weight"] == "16x1 · 0.70"
    assert rows["encoder.layer.0.output.dense.bias"] is None
    assert "70 %" in page.plain and "of the multiply-adds" in page.plain and "Kept: which weights" in page.plain
    assert (page.data["across"], page.data["limits"]["work"]) == ("work", 80.0)
    assert page.data["frontier"][0]["work"] == 100.0
    assert page.data["predicted"] == whole["predicted_work"]
    assert "Work against loss" in page.plain and "multiply-adds" in page.plain
    assert "1,000 channels; 2,000 weights are left" in page.plain


def test_without_pruning_nothing_is_said_of_work(minilm, parse):
    page = parse(render(minilm | {"work": {"original": 10, "artifact": 10}}))
    assert "multiply-adds" not in page.plain and "Kept:" not in page.plain
    assert page.data["across"] == "bits" and set(page.data["layers"]["kept"]) == {None}


def test_work_that_nobody_counted_is_not_drawn(minilm, parse):
    whole = pruned(minilm)
    assert parse(render(whole | {"frontier": frontier()})).data["across"] == "bits"
    assert parse(render(whole | {"work": None})).data["across"] == "bits"


def test_what_was_written_is_in_the_chart(minilm, parse):
    data = parse(render(minilm)).data
    assert data["predicted"] == minilm["predicted_frontier"]
    assert [point["state"] for point in data["frontier"]].count("chosen") == 0
    written = data["frontier"][-1]
    assert (written["state"], written["bits"], written["loss"]) == ("written", 3.12, pytest.approx(0.0057 * 0.7))
    assert written["metrics"]["accuracy"] == pytest.approx({"relative": 0.0028 / 0.93, "upper": 0.0055 / 0.93})


def test_a_chosen_point_is_not_written_twice(minilm, parse):
    page = parse(render(minilm | {"frontier": frontier(chosen=True)}))
    states = [point["state"] for point in page.data["frontier"]]
    assert states.count("chosen") == 1
    assert "written" not in states


def test_recipe_and_how_to_repeat(minilm, parse):
    text = parse(render(minilm)).text
    shown = text[text.index('{\n  "version": 1') : text.index("Copy")]
    assert json.loads(shown) == minilm["recipe"]
    assert minilm["command"] in text
    assert minilm["model"]["sha256"] in text
    assert "profile 31\xa0s, search 2\xa0min 28\xa0s, judge 24\xa0s" in text


def test_the_page_needs_nothing_else(minilm, parse):
    page = render(minilm)
    assert not re.search(r"https?:|//[a-z]|@import|url\(|fetch\(|XMLHttpRequest|\bimport\b.*from", page)
    allowed = {("link", "href"): "data:,", ("a", "href"): "#main"}
    for tag, attributes in parse(page).tags:
        for name in attributes.keys() & {"src", "href", "srcset", "action", "data", "style"}:
            assert attributes[name] == allowed[tag, name]


def test_the_policy_allows_the_page_s_own_style_and_script_only(minilm, parse):
    page = parse(render(minilm))
    policy = next(attributes["content"] for tag, attributes in page.tags if "http-equiv" in attributes)
    style, script = (
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (page.sources["style"][0], page.sources["script"][1])
    )
    assert policy == f"default-src 'none'; img-src data:; style-src 'sha256-{style}'; script-src 'sha256-{script}'"


def test_the_same_receipt_gives_the_same_bytes(minilm):
    assert render(minilm) == render(json.loads(json.dumps(minilm)))


def test_usual_size(minilm):
    assert len(render(minilm).encode()) < 150_000


def test_size_with_2000_layers(parse):
    page = render(receipt(many(2000)))
    assert len(page.encode()) < 2_000_000
    data = parse(page).data["layers"]
    assert len(data["name"]) == 2000
    assert all(len(drawn["heights"]) <= 20 for drawn in data["histogram"])


def test_of_very_many_layers_the_largest_are_shown(parse):
    count = MOST_LAYERS + 1000
    layers = [{"name": f"layer.{index}", "bytes": index % 977} for index in range(count)]
    page = parse(render(ONLY_SIZES | {"layers": layers}))
    assert f"The {MOST_LAYERS:,} largest of {count:,} tensors." in page.text
    kept = page.data["layers"]
    assert sorted(kept["bytes"]) == sorted(index % 977 for index in range(count))[1000:]
    assert kept["name"] == sorted(kept["name"], key=lambda name: int(name[6:]))


def test_points_without_a_size_are_in_the_table_only(minilm, parse):
    lone = point(7, 3.0, 0.1, feasible=False) | {"bits_per_weight": None, "metrics": {}, "predicted_D": None}
    page = parse(render(minilm | {"frontier": [lone], "judgement": []}))
    assert page.data["frontier"] == []
    assert "The point as a table" in page.text


def test_histograms_with_ends_only_have_bins_of_equal_width(minilm):
    from regrain.pipelines.report.parse import parse_receipt

    layer = {"name": "x", "histogram": {"edges": [-1, 3], "counts": [1, 2, 3, 4]}}
    (parsed,) = parse_receipt(minilm | {"layers": [layer]}).layers
    assert parsed.histogram.edges == (-1, 0, 1, 2, 3)
