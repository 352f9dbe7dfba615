"""Text that goes on: planned from a plain file, learnt, scored beside n-grams, written and looked at."""

import json
import math
import os
import random
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

import regard
from regard.api import Run, propose
from regard.cli.main import main
from regard.data.rows import TextRows
from regard.data.text import Text
from regard.data.tokenisers import END, START, Vocabulary
from regard.errors import DataError, InputError, RunError
from regard.evaluation import judged_rows
from regard.models.model import Model
from regard.padded import pad
from regard.recipes import named_recipe
from regard.settings import override
from regard.tasks.baselines.ngrams import ORDER, NGrams
from regard.tasks.encoded import encode
from regard.tasks.language import Continue, ContinueSettings
from regard.tasks.packing import PackedWindows
from regard.tasks.task import Batch, collate
from regard.training.objective import build_objective

SMALL = [
    "vocabulary.kind=characters",
    "task.context=32",
    "data.stretch=40",
    "data.before=20",
    "model.width=32",
    "model.dropout=0",
    "model.decoder.layers=2",
    "model.decoder.heads=2",
    "model.decoder.feedforward=64",
    "batching.tokens=256",
    "training.steps=200",
    "training.evaluate_every=100",
    "training.optimisation.learning_rate=0.01",
    "training.precision=fp32",
    "search.max_length=30",
]
WORLD = Path(os.environ.get("REGARD_DATA", "")) / "language_modelling/tinyshakespeare"


def counting(numbers: int, seed: int) -> str:
    """Lines that count on from a number drawn at random, too far apart for n-grams to see the one before."""
    draw = random.Random(seed)
    lines = ([*range(first, first + 4)] for first in (draw.randint(10, 95) for _ in range(numbers)))
    return "".join(" -> ".join(map(str, line)) + "\n" for line in lines)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("continue")
    (folder / "book.txt").write_text(counting(600, 1))
    return regard.train(folder / "book.txt", out=folder / "run", settings=SMALL, device="cpu")


@pytest.fixture(scope="module")
def task() -> Continue:
    train = TextRows.of([{"target": "a b\n\tc  d" * 20}, {"target": "dabc\n" * 30}])
    return ContinueSettings(context=8).learn(train, Vocabulary(kind="characters"))


def model_of(task: Continue, run: Run) -> Model:
    torch.manual_seed(0)
    settings = override(run.predictor.recipe, ["model.decoder.attention_dropout=0"]).model
    return build_objective(task, settings, 1).model.double().eval()


def test_a_plain_text_is_learnt(run: Run) -> None:
    assert run.predictor.recipe.task.kind == "continue"
    scores, baseline = run.scores, run.trained.baseline
    assert scores["loss_per_character"] < 0.8 < baseline["loss_per_character"]
    assert scores["bits_per_character"] == pytest.approx(scores["loss_per_character"] / math.log(2))
    assert scores["perplexity"] == pytest.approx(math.exp(scores["loss"]))
    assert "5-gram" in (run.path / "README.md").read_text()
    page = (run.path / "report.html").read_text()
    assert "困惑度" in page and len(page) < 4_000_000


def test_it_counts_on(run: Run) -> None:
    answers = run.predictor.predict(["41 -> 42 -> ", "41 -> 42 -> 4", "\n56 -> 57"], beam=1, max_length=13)
    for answer, begins in zip(answers, ("43", "3", " -> 58"), strict=True):
        assert answer.text.startswith(begins) and len(answer.ids) == 12


def test_draws_follow_from_seed_and_row(run: Run) -> None:
    predict = run.predictor.predict
    prompts = ["", "12", "12 -> 13\n7", "3"]
    together = [answer.text for answer in predict(prompts, temperature=1.2)]
    assert [predict([prompt], temperature=1.2)[0].text for prompt in prompts] == together
    assert together != [answer.text for answer in predict(prompts, temperature=1.2, seed=5)]
    assert all(0 < len(text) <= 30 for text in together)
    best = predict(prompts, beam=3, n_best=2, max_length=8)
    assert all(len(answer.alternatives) == 1 and answer.score >= answer.alternatives[0].score for answer in best)
    assert predict(["12 -> "], prefixes=["99"], beam=1)[0].text.startswith("99")


def test_what_was_looked_at(run: Run) -> None:
    maps = run.predictor.inspect("41 -> 42", "43")
    assert maps.source == ("<s>", *"41▁->▁42") and maps.target == (*"43", "</s>")
    assert [word.text for word in maps.words["target"]] == ["43", "</s>"]
    given, written = maps.maps["decoder/0/cross"], maps.maps["decoder/0/self"]
    assert torch.allclose(given.sum(-1) + written.sum(-1), torch.ones(2, 3), atol=1e-5)
    assert not written[:, :, 0].any() and not written[:, 0].any() and written[:, 2, 2].all()
    assert torch.allclose(maps.maps["encoder/1/self"].sum(-1), torch.ones(2, 9), atol=1e-5)
    assert maps.maps["cross/average"].shape == (1, 3, 9)
    assert "43" in maps.to_html()
    long = run.predictor.inspect("41 -> 42\n" * 30, "43\n" * 40)
    assert len(long.source) == len(long.target) == 64 and len(run.predictor.inspect("").source) == 1


def test_the_run_is_found_again(run: Run) -> None:
    again, rows = regard.load(run.path, "cpu"), [{"source": "12 -> ", "target": "13 -> 14"}]
    assert again.predict(["1", "23"]) == run.predictor.predict(["1", "23"])
    assert again.evaluate(rows).scores == run.predictor.evaluate(rows).scores


def test_from_the_command_line(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "prompts.txt").write_text("41 -> 42\n\n13 -> 14 -> 1\n")
    options = ["--sample", "--temperature", "0.1", "--top-k", "3", "--top-p", "0.9", "--seed", "2"]
    assert main(["predict", str(run.path), str(tmp_path / "prompts.txt"), "--json", *options]) == 0
    texts = [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()]
    assert len(texts) == 3 and texts[0].startswith(" -> 43")
    (tmp_path / "lines.txt").write_text("12 -> 13 -> 14 -> 15\n41 -> 42 -> 43 -> 44\n")
    assert main(["predict", str(run.path), str(tmp_path / "lines.txt"), "--whole", "--beam", "1"]) == 0
    assert capsys.readouterr().out.startswith("\n")
    (tmp_path / "more.txt").write_text(counting(30, 7))
    assert main(["evaluate", str(run.path), str(tmp_path / "more.txt"), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["scores"]["loss_per_character"] < 0.8 < found["baseline"]["loss_per_character"]
    assert found["reference_tokens"] == len(counting(30, 7))


def test_the_loss_is_the_mean_over_every_held_out_token(run: Run) -> None:
    """By hand: one token after the other, each with all the given text before it."""
    predictor, text = run.predictor, counting(4, 9)
    data = Text(train=("unread",), stretch=17, before=6)
    rows = [
        {"source": text[max(start - 6, 0) : start], "target": text[start : start + 17]}
        for start in range(0, len(text), 17)
    ]
    assert data._stretches([text]) == rows and "".join(row["target"] for row in rows) == text
    nats = 0.0
    with torch.no_grad():
        for row in rows:
            read = [START, *predictor.task.written(row["source"] + row["target"])]
            logits = predictor.model.advance(pad([read[:-1]]), None, predictor.model.start(None, 1))[0]
            log_probs = predictor.model.log_probs(logits, None)[0]
            for place in range(len(read) - len(row["target"]), len(read)):
                nats -= float(log_probs[place - 1, read[place]])
    scores = predictor.evaluate(rows).scores.values
    assert scores["loss_per_character"] == pytest.approx(nats / len(text), abs=1e-5) == scores["loss"]


def test_a_row_is_judged_the_same_in_any_batch(task: Continue, run: Run) -> None:
    model = model_of(task, run)
    texts = [("", "abcd"), ("abc", "d"), ("a b\n", "cdabcd"), ("dabcabcab", "cab\n")]
    examples = [task.example({"source": source, "target": target}) for source, target in texts]
    alone = [judged_rows(task, model, [one])[0] for one in examples]
    for one, other in zip(judged_rows(task, model, examples), alone, strict=True):
        assert one.score == pytest.approx(other.score, abs=1e-9) and one.ids == other.ids
    together = task.loss(model, collate(examples))
    assert float(together.total.detach()) == pytest.approx(-sum(one.score for one in alone), abs=1e-9)


def test_windows_follow_the_stream(task: Continue) -> None:
    train = TextRows.of([{"target": "abcd" * 10}, {"target": "dcba" * 6}])
    windows = encode(task, train)
    assert isinstance(windows, PackedWindows) and len(windows) == 66 // 8
    first, second = task.field.encode("abcd" * 10), task.field.encode("dcba" * 6)
    stream = [*first, END, *second, END]
    torch.manual_seed(1)
    batches = [windows.batch(np.arange(8)) for _ in range(30)]
    starts = set()
    for source, target in batches:
        assert source.values.tolist() == [[START]] * 8 and target.lengths.tolist() == [8] * 8
        for row, ids in enumerate(target.values.tolist()):
            found = [place for place in range(row * 8, row * 8 + 8) if stream[place : place + 8] == ids]
            assert found or ids == stream[-8:]
            starts.update(found)
    assert len(starts) > 55
    torch.manual_seed(1)
    assert torch.equal(windows.batch(np.arange(8)).target.values, batches[0].target.values)
    assert (windows.lengths[np.arange(8)] == [1, 8]).all()


def test_a_text_shorter_than_a_window(task: Continue) -> None:
    batch = encode(task, TextRows.of([{"target": "ab"}])).batch(np.arange(1))
    assert batch.target.values.tolist() == [[*task.field.encode("ab"), END]]


def test_all_but_the_last_share_is_learnt_from(tmp_path: Path) -> None:
    for name, text in (("a.txt", "one\ntwo\n\n"), ("b.txt", "  three\tfour\n")):
        (tmp_path / name).write_text(text)
    corpus = Text(train=(str(tmp_path / "a.txt"), str(tmp_path / "b.txt")), held_out=0.2, stretch=3, before=2).load()
    assert [row["target"] for row in corpus.train] == ["one\ntwo\n\n", "  three\t"]
    assert [*corpus.dev] == [{"source": "", "target": "fou"}, {"source": "ou", "target": "r\n"}]
    assert not corpus.test and "17 characters to train on" in corpus.notes[1]


@pytest.mark.parametrize(("text", "found"), [("a\n", "not enough to learn from"), ("\n" * 90, "every character is")])
def test_hopeless_texts_are_refused(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "a.txt").write_text(text)
    with pytest.raises(DataError, match=found):
        Text(train=(str(tmp_path / "a.txt"),)).load()


@pytest.mark.parametrize("kind", ["characters", "subwords"])
def test_every_character_comes_back(kind: str) -> None:
    texts = ["ROMEO:\nBut  soft,\tlight\n\n", "  x\r\n", "\n\n\n", "漢字 ▁ é <s> </s>", "", "\u00a0 \t\t "]
    train = TextRows.of([{"target": text * 9} for text in texts[:3]])
    field = ContinueSettings().learn(train, Vocabulary(kind=kind, size=300)).field
    assert [field.decode(field.encode(text)) for text in texts] == texts
    assert "\n" in field.steps(field.encode("a\nb"))


def test_ngrams_are_the_papers_formula() -> None:
    draw = np.random.default_rng(1)
    tokens = draw.choice(4, 300, p=[0.5, 0.3, 0.15, 0.05]).tolist()
    ngrams = NGrams.learn(6, tokens)

    def chance(history: list[int], token: int) -> float:
        """Witten and Bell's method C, from the longest context down."""
        after = Counter(
            tokens[place + len(history)]
            for place in range(len(tokens) - len(history))
            if tokens[place : place + len(history)] == history
        )
        lower = chance(history[1:], token) if history else 1 / 6
        seen, kinds = sum(after.values()), len(after)
        return (after[token] + kinds * lower) / (seen + kinds) if seen else lower

    for history in ([], [0], [3, 3, 3, 3], [0, 1, 0, 0], [5, 0], [1, 5, 0, 1]):
        chances = [chance(history, token) for token in range(6)]
        assert sum(chances) == pytest.approx(1)
        for token in range(6):
            assert ngrams.log_prob(history, [token]) == pytest.approx(math.log(chances[token]))
    assert ngrams.log_prob([1], [0, 2]) == pytest.approx(ngrams.log_prob([1], [0]) + ngrams.log_prob([1, 0], [2]))
    assert max(map(len, ngrams.counts)) == ORDER and ngrams.name == "5-gram"


@pytest.mark.parametrize(
    "content", ["", "{}", "[[1]]", "[[1, 999999]]", "[[0, 4]]", '[["1", 4]]', "[[1, 4, 4, 4, 4, 4, 4]]"]
)
def test_damaged_files_are_named(run: Run, tmp_path: Path, content: str) -> None:
    for file in run.path.rglob("*"):
        if file.is_file():
            (tmp_path / file.relative_to(run.path)).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file.relative_to(run.path)).write_bytes(file.read_bytes())
    (tmp_path / "fields" / "ngrams.json").write_text(content)
    with pytest.raises(RunError, match="missing or damaged"):
        regard.load(tmp_path, "cpu")


def test_a_text_has_no_columns(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text(counting(30, 1))
    with pytest.raises(InputError, match="no columns"):
        propose(tmp_path / "book.txt", source="a", out=tmp_path / "run")


def test_subwords_are_planned_too(tmp_path: Path) -> None:
    (tmp_path / "book.txt").write_text("".join(f"said the {word} to the  cat\n" for word in "dog fox owl".split() * 90))
    _, plan = propose(tmp_path / "book.txt", out=tmp_path / "run", settings=SMALL[1:])
    assert isinstance(plan.task, Continue)
    row = plan.corpus.dev[1]
    example = plan.task.example(row)
    assert len(example.target) < len(row["target"]) and plan.task.field.decode(example.target) == row["target"]
    model = build_objective(plan.task, plan.recipe.model, 1).model
    [judged] = judged_rows(plan.task, model, [example])
    scores = plan.task.score([judged], [row]).values
    assert scores["loss_per_character"] == pytest.approx(-judged.score / len(row["target"]))
    assert scores["loss"] == pytest.approx(-judged.score / len(example.target))


@pytest.mark.skipif(not WORLD.is_dir(), reason="REGARD_DATA names no folder with language_modelling/tinyshakespeare")
def test_the_usual_split_of_tiny_shakespeare() -> None:
    corpus = named_recipe("shakespeare", str(WORLD)).data.load()
    assert [len(row["target"]) for row in corpus.train] == [1_003_854]
    assert sum(len(row["target"]) for row in corpus.dev) == 111_540
    assert len(set(corpus.train[0]["target"])) == 65


def test_batches_can_be_moved(task: Continue) -> None:
    batch = encode(task, TextRows.of([{"target": "abcd" * 10}])).batch(np.arange(2)).to("cpu")
    assert isinstance(batch, Batch) and batch.target.values.dtype == torch.int64
