"""Texts with labels: planned from a plain file, learnt, scored beside naive Bayes, looked at."""

import json
import math
import os
import random
from copy import copy
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score
from sklearn.naive_bayes import MultinomialNB

import regard
from regard.api import Run, propose
from regard.cli.main import main
from regard.data.fields import TextField
from regard.data.labels import Labels
from regard.data.rows import TextRows
from regard.data.tokenisers import END, Vocabulary
from regard.errors import DataError, InputError, RunError
from regard.layers.segments import sentences_of
from regard.metrics.labels import accuracy, calibration_error, macro_f1
from regard.models.model import ModelSettings
from regard.pieces import merge_words
from regard.recipes import named_recipe
from regard.settings import override
from regard.tasks.baselines.naive_bayes import NaiveBayes
from regard.tasks.classify import Classify, ClassifySettings, Labelled
from regard.tasks.encoded import encode
from regard.tasks.generate import GenerateSettings
from regard.training.objective import build_objective

NOUNS = "film plot actor scene story song ending cast".split()
GOOD, BAD = "fine great lovely rich".split(), "dull weak awful flat".split()
SMALL = ["model.width=32", "training.steps=150", "training.evaluate_every=50", "training.precision=fp32"]


def reviews(number: int, seed: int) -> list[tuple[str, str]]:
    """Praise or not: "not" before it turns an adjective round, so single words do not tell."""
    draw = random.Random(seed)
    found = []
    for _ in range(number):
        good, turned = draw.random() < 0.5, draw.random() < 0.5
        adjective = draw.choice(GOOD if good != turned else BAD)
        words = f"the {draw.choice(NOUNS)} was {'not' if turned else 'so'} {adjective}"
        found.append((f"{words} and the {draw.choice(NOUNS)} too", "good" if good else "bad"))
    return found


def write(path: Path, rows: list[tuple[str, str]]) -> str:
    path.write_text("".join(f"{text}\t{label}\n" for text, label in rows))
    return str(path)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("classify")
    train, dev = write(folder / "train.tsv", reviews(400, 1)), write(folder / "dev.tsv", reviews(60, 2))
    settings = [*SMALL, "task.word_dropout=0"]  # without its "not" a text teaches the opposite
    return regard.train(train, dev=dev, out=folder / "run", settings=settings, device="cpu")


def test_a_plain_file_with_labels_is_learnt(run: Run) -> None:
    assert run.predictor.recipe.task.kind == "classify"
    assert run.scores["accuracy"] == run.scores["macro_f1"] == 100
    assert run.scores["calibration_error"] < 20
    assert run.trained.baseline["accuracy"] > 90  # pairs of words tell what single ones do not
    page = (run.path / "report.html").read_text()
    assert "naive Bayes" in (run.path / "README.md").read_text() and "准确率" in page


def test_answers_are_labels_with_all_others(run: Run) -> None:
    [answer] = run.predictor.predict(["the film was not dull and the plot too"])
    assert isinstance(answer, Labelled) and answer.label == "good"
    [other] = answer.alternatives
    assert np.exp(answer.score) + np.exp(other.score) == pytest.approx(1, abs=1e-5)
    assert answer.to_json() == {
        "label": "good",
        "score": answer.score,
        "alternatives": [{"label": "bad", "score": other.score}],
    }
    assert [one.text for one in run.predictor.predict(["", "the plot was so weak"])] == ["", "bad"]


def test_what_decided_is_seen(run: Run) -> None:
    maps = run.predictor.predict(["the film was not dull and the plot too"])[0].attention
    pooled = maps.word_map("cross/average")[0]
    assert pooled.shape == (1, len(maps.words["source"])) and float(pooled.sum()) == pytest.approx(1, abs=1e-5)
    assert [word.text for word in maps.words["target"]] == ["good"]
    assert "not" in [word.text for word in maps.words["source"]]
    assert "good" in maps.to_html()


def test_the_run_is_found_again(run: Run) -> None:
    again = regard.load(run.path, "cpu")
    rows = [{"source": text, "target": label} for text, label in reviews(20, 3)]
    assert again.predict(rows) == run.predictor.predict(rows)
    found = run.predictor.evaluate(rows)
    assert again.evaluate(rows).scores == found.scores
    assert "decoder/pool" in found.predictions[0].attention.maps


def test_a_label_has_no_beginning(run: Run) -> None:
    with pytest.raises(DataError, match="a label has no beginning to go on from"):
        run.predictor.predict(["the film was dull"], prefixes=["good"])


def test_labels_from_the_command_line(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "texts.txt"
    text.write_text("the film was so dull\n\nthe film was so rich\n")
    assert main(["predict", str(run.path), str(text), "--json"]) == 0
    assert [json.loads(line).get("label") for line in capsys.readouterr().out.splitlines()] == ["bad", "", "good"]
    assert main(["evaluate", str(run.path), write(tmp_path / "rows.tsv", reviews(30, 4))]) == 0
    assert "naive Bayes" in capsys.readouterr().out


def test_words_then_sentences(tmp_path: Path) -> None:
    """The light on a word is that on its sentence times that in it."""
    train = write(
        tmp_path / "train.tsv", [(f"we saw it . {text} !! and so it is .", label) for text, label in reviews(300, 1)]
    )
    settings = [*SMALL, "task.word_dropout=0", "model.encoder={kind: hierarchical}"]
    made = regard.train(train, out=tmp_path / "run", settings=[*settings, "model.decoder={kind: pool, hidden: 16}"])
    assert made.scores["accuracy"] > 90
    text = "we saw it . the film was so lovely !! and so it is ."
    task, predictor = made.predictor.task, made.predictor
    ids = torch.tensor([[*task.field.encode(text), END]])
    numbers = sentences_of(ids, task.closing, END)[0]
    pieces = task.field.steps(ids[0].tolist())
    begins = [piece for piece, rises in zip(pieces[1:], numbers.diff().tolist(), strict=True) if rises]
    assert begins == ["▁the", "▁and"] and int(numbers[-1]) == 2
    maps = predictor.predict([text])[0].attention
    [light] = maps.maps["decoder/pool"][0]
    assert len(light) == len(pieces) and float(light.sum()) == pytest.approx(1)
    assert float(light[numbers == 1].sum()) > 0.5


def test_sentences_of_which_each_has_its_light_in_words(tmp_path: Path) -> None:
    """Whatever the decoder that looks at sentences."""
    train = write(tmp_path / "train.tsv", [(f"we saw it . {text}", label) for text, label in reviews(20, 1)])
    settings = ["training.steps=2", "model.width=8", "model.encoder={kind: hierarchical}", "model.decoder={kind: rnn}"]
    predictor = regard.train(train, out=tmp_path / "run", settings=settings).predictor
    [light] = predictor.predict(["we saw it . the film was dull ."])[0].attention.maps["decoder/cross"][0]
    assert len(light) > 6 and float(light.sum()) == pytest.approx(1)


def test_runs_to_classify_are_compared(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = write(tmp_path / "rows.tsv", reviews(30, 4))
    assert main(["compare", str(run.path), str(run.path), rows]) == 0
    told = capsys.readouterr().out
    assert told.count("p = 1.0000  within chance") == 3 and "accuracy  100.00  100.00" in told
    other = copy(run.predictor)
    other.recipe = other.recipe.model_copy(update={"task": GenerateSettings()})
    with pytest.raises(InputError, match="one run is to classify, the other to generate"):
        run.predictor.compare(other, [])


def test_a_label_that_training_has_not_seen(run: Run, tmp_path: Path) -> None:
    train, dev = write(tmp_path / "a.tsv", reviews(60, 1)), write(tmp_path / "b.tsv", [("a film", "goood")] * 3)
    with pytest.raises(DataError, match="label 'goood' was not seen in training") as caught:
        regard.train(train, dev=dev, out=tmp_path / "run")
    assert "good" in str(caught.value.hint) and not (tmp_path / "run").exists()
    strange = [{"source": "the film was so rich", "target": "goood"}]
    assert run.predictor.evaluate(strange).scores.values["accuracy"] == 0


def test_signs_are_labels_too(tmp_path: Path) -> None:
    signs = {"good": "+", "bad": "-"}
    rows = [(f"{text} {place}", signs[label]) for place, (text, label) in enumerate(reviews(60, 1))]
    _, plan = propose(write(tmp_path / "train.tsv", rows), out=tmp_path / "run", settings=SMALL)
    assert set(plan.task.labels.names) == {"+", "-"} and len(plan.corpus.train) + len(plan.corpus.dev) == 60


@pytest.mark.parametrize("name", ["labels.json", "naive_bayes.json"])
@pytest.mark.parametrize("content", ["", "[]", '{"good": "many"}', '{"good": [1]}', "9" * 5000])
def test_damaged_files_are_named(run: Run, tmp_path: Path, name: str, content: str) -> None:
    for file in run.path.rglob("*"):
        if file.is_file():
            (tmp_path / file.relative_to(run.path)).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file.relative_to(run.path)).write_bytes(file.read_bytes())
    (tmp_path / "fields" / name).write_text(content)
    with pytest.raises(RunError, match="missing or damaged"):
        regard.load(tmp_path, "cpu")


def test_scores_are_those_of_scikit_learn() -> None:
    draw = np.random.default_rng(1)
    found, wanted = (draw.choice(["a", "b", "c"], 200, p=[0.6, 0.3, 0.1]).tolist() for _ in range(2))
    assert macro_f1(found, wanted) == pytest.approx(100 * f1_score(wanted, found, average="macro"))
    assert accuracy(found, wanted) == pytest.approx(100 * np.mean(np.array(found) == np.array(wanted)))


def test_calibration_error_is_its_formula() -> None:
    draw = np.random.default_rng(1)
    confidences, right = draw.uniform(0.2, 1, 500), draw.random(500) < 0.7
    wanted = 0.0
    for low in np.arange(15) / 15:
        inside = (confidences > low) & (confidences <= low + 1 / 15)
        if inside.any():
            wanted += inside.mean() * abs(right[inside].mean() - confidences[inside].mean())
    assert calibration_error(confidences, right) == pytest.approx(100 * wanted)
    assert calibration_error(np.ones(4), np.array([True, True, False, True])) == 25


def test_naive_bayes_is_scikit_learns() -> None:
    rows = reviews(200, 5)
    labels = Labels.learn(label for _, label in rows)
    bayes = NaiveBayes.learn(labels, rows)
    vocabulary = [*bayes.counts]

    def table(texts: list[str]) -> np.ndarray:
        words = [text.split() for text in texts]
        seen = [{*one, *(f"{a} {b}" for a, b in pairwise(one))} for one in words]
        return np.array([[feature in one for feature in vocabulary] for one in seen], int)

    peer = MultinomialNB().fit(table([text for text, _ in rows]), [label for _, label in rows])
    fresh = [text for text, _ in reviews(100, 6)]
    assert [bayes.label(text) for text in fresh] == peer.predict(table(fresh)).tolist()
    assert [math.exp(bayes.log_prob({"source": text})) for text in fresh] == pytest.approx(
        peer.predict_proba(table(fresh)).max(1).tolist()
    )
    counts = {feature: -sum(each) for feature, each in bayes.counts.items()}
    assert vocabulary == sorted(vocabulary, key=lambda feature: (counts[feature], feature))
    known = peer.feature_log_prob_[:, vocabulary.index("lovely")]
    assert bayes.evidence("Lovely") == pytest.approx(known - known.mean())
    assert bayes.evidence("unheard") == [0.0, 0.0]


def test_words_begin_as_naive_bayes_knows_them() -> None:
    rows = [{"source": text, "target": label} for text, label in reviews(200, 5)]
    vocabulary = Vocabulary(kind="merges", size=500)
    task = ClassifySettings().learn(TextRows.of(rows), vocabulary)
    model = ModelSettings.model_validate({"kind": "rnn", "width": 16, "decoder": {"kind": "pool"}})
    vectors = build_objective(task, model, seed=1).model.source_embedding.weight.detach()
    untied = build_objective(task, override(model, ["embedding.tied=none"]), seed=1).model.source_embedding.weight
    place = task.field.steps(range(task.vocabulary)).index("▁lovely")
    assert torch.equal(untied[place, :2], vectors[place, :2])
    place = task.field.steps(range(task.vocabulary)).index("▁lovely")
    bayes = NaiveBayes.learn(task.labels, reviews(200, 5))
    assert (4 * vectors[place, :2]).tolist() == pytest.approx(bayes.evidence("lovely"), abs=1e-5)
    assert not vectors[: END + 1, :2].any() and float(vectors[:, 2:].std()) == pytest.approx(0.25, abs=0.02)


TAGGED = [
    {"source": text, "target": "+" if "好" in text else "-", "tag": "xx"}
    for text in ("a film so good 好 看", "an awful unwatchable film 坏", "a lovely good story 很好", "dull 难看")
]


def with_fewer_words(share: float) -> Classify:
    return ClassifySettings(word_dropout=share).learn(TextRows.of(TAGGED), Vocabulary(size=400, split_han=True))


def is_inside(some: list[str], others: list[str]) -> bool:
    """In the same order."""
    rest = iter(others)
    return all(one in rest for one in some)


def test_words_are_left_out_whole() -> None:
    task, row = with_fewer_words(0.5), {"source": "an awful film 难看 好", "target": "-", "tag": "xx"}
    assert isinstance(task.field, TextField) and task.redraw
    whole, words = task.example(row), "an awful film 难 看 好".split()
    assert len(whole.source) > len(words) + 2  # some words are several pieces
    torch.manual_seed(1)
    drawn = [task.redraw(whole) for _ in range(200)]
    assert {(int(one.source[0]), int(one.source[-1])) for one in drawn} == {(whole.source[0], END)}
    assert all(one.target == whole.target for one in drawn)
    left = [[word.text for word in merge_words(task.field.steps(one.source))][1:-1] for one in drawn]
    assert all(is_inside(one, words) for one in left)
    assert np.mean([len(one) for one in left]) == pytest.approx(3, abs=0.3)
    assert {len(one) for one in left} >= {1, 5}


def test_what_is_left_out_is_drawn_from_the_step() -> None:
    rows, places = TextRows.of(TAGGED), np.arange(len(TAGGED))
    examples, plain = (encode(with_fewer_words(share), rows) for share in (0.5, 0.0))

    def drawn(seed: int) -> list[int]:
        torch.manual_seed(seed)
        return examples.batch(places).source.lengths.tolist()

    assert drawn(1) == drawn(1) != drawn(2)
    assert max(drawn(1)) <= plain.batch(places).source.values.shape[1]


def test_only_words_are_left_out() -> None:
    recipe = named_recipe("sst2", "somewhere")
    with pytest.raises(InputError, match="no words to leave out"):
        override(recipe, ["task.source.kind=sound"])


def test_plain_files_have_words_left_out(tmp_path: Path) -> None:
    _, plan = propose(write(tmp_path / "train.tsv", reviews(60, 1)), out=tmp_path / "run", settings=SMALL)
    assert plan.recipe.task.word_dropout > 0


@pytest.mark.parametrize(("name", "dev", "test"), [("sst2", 872, 1821), ("chnsenticorp", 1200, 1200)])
def test_the_recipes_read_their_data(name: str, dev: int, test: int) -> None:
    folder = Path(os.environ.get("REGARD_DATA", "nowhere")) / "sentiment" / name
    if not folder.is_dir():
        pytest.skip(f"no {folder}: set REGARD_DATA to a folder that has sentiment/{name}")
    recipe = named_recipe(name, str(folder))
    corpus = recipe.data.load()
    assert (len(corpus.dev), len(corpus.test)) == (dev, test) and corpus.dropped["also in test"]
    train, rows = list(corpus.train), list(corpus.test)
    assert not {row["source"] for row in train} & {row["source"] for row in rows}
    bayes = NaiveBayes.learn(
        Labels.learn(row["target"] for row in train), ((row["source"], row["target"]) for row in train)
    )
    assert accuracy([bayes.answer(row) for row in rows], [row["target"] for row in rows]) > 70  # chance: 50
