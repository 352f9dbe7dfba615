"""Texts with labels: planned from a plain file, learnt, scored beside naive Bayes, looked at."""

import json
import random
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score
from sklearn.naive_bayes import MultinomialNB

import regard
from regard.api import Run, propose
from regard.cli.main import main
from regard.data.labels import Labels
from regard.errors import DataError, RunError
from regard.metrics.labels import accuracy, calibration_error, macro_f1
from regard.tasks.classify import Labelled
from regard.tasks.naive_bayes import NaiveBayes

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
    return regard.train(train, dev=dev, out=folder / "run", settings=SMALL, device="cpu")


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
    assert again.evaluate(rows).scores == run.predictor.evaluate(rows).scores


def test_labels_from_the_command_line(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = tmp_path / "texts.txt"
    text.write_text("the film was so dull\n\nthe film was so rich\n")
    assert main(["predict", str(run.path), str(text), "--json"]) == 0
    assert [json.loads(line).get("label") for line in capsys.readouterr().out.splitlines()] == ["bad", "", "good"]
    assert main(["evaluate", str(run.path), write(tmp_path / "rows.tsv", reviews(30, 4))]) == 0
    assert "naive Bayes" in capsys.readouterr().out


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
