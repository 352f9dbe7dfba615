"""The toolkit must learn: both kinds of model reverse strings they have never seen, and show where they looked."""

import random
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

import regard
from regard.api import Run
from regard.data.rows import Row
from regard.inspection.alignment import AttentionMaps

SETTINGS = [
    "task.label_smoothing=0",
    "task.metric=exact_match",
    "vocabulary.size=300",
    "vocabulary.split_digits=true",
    "model.width=64",
    "model.dropout=0",
    "batching.tokens=512",
    "training.precision=fp32",
    "training.steps=600",
    "training.evaluate_every=300",
    "training.optimisation.warmup=40",
    "training.optimisation.schedule=cosine",
    "training.optimisation.ema_decay=0.98",
    "search.beam=1",
]
SIDE = ["layers=2", "heads=4", "feedforward=128", "attention_dropout=0"]
KINDS = {
    "rnn": ["model.kind=rnn", "training.optimisation.learning_rate=8e-3"],
    "transformer": [
        "model.kind=transformer",
        "training.optimisation.learning_rate=4e-3",
        *(f"model.{part}.{setting}" for part in ("encoder", "decoder") for setting in SIDE),
    ],
}
TRAIN_ROWS, TEST_ROWS = 3000, 200


def strings(count: int) -> list[str]:
    """Distinct random strings of 3 to 8 digits."""
    draw = random.Random(1)
    found: dict[str, None] = {}
    while len(found) < count:
        found["".join(draw.choices("0123456789", k=draw.randint(3, 8)))] = None
    return list(found)


def reversal(number: int, text: str) -> Row:
    return {"source": text, "target": text[::-1]}


def copy_or_reversal(number: int, text: str) -> Row:
    if number % 2:
        return {"source": text, "target": text, "tag": "copy"}
    return {"source": text, "target": text[::-1], "tag": "reverse"}


def learn(folder: Path, kind: str, row: Callable[[int, str], Row]) -> tuple[Run, list[Row]]:
    """A run on most of the rows, and the rows it has not seen."""
    torch.set_num_threads(1)
    rows = [row(number, text) for number, text in enumerate(strings(TRAIN_ROWS + TEST_ROWS))]
    lines = ["\t".join(cells) for cells in (rows[0].keys(), *(row.values() for row in rows[TEST_ROWS:]))]
    (folder / "train.tsv").write_text("\n".join(lines) + "\n")
    run = regard.train(folder / "train.tsv", out=folder / "run", device="cpu", settings=[*SETTINGS, *KINDS[kind]])
    return run, rows[:TEST_ROWS]


@pytest.fixture(scope="module")
def rnn(tmp_path_factory: pytest.TempPathFactory) -> tuple[Run, list[Row]]:
    return learn(tmp_path_factory.mktemp("rnn"), "rnn", reversal)


def exact_match(run: Run, rows: list[Row]) -> float:
    return run.predictor.evaluate(rows).scores.values["exact_match"]


def test_a_recurrent_model_learns_to_reverse(rnn: tuple[Run, list[Row]]) -> None:
    assert exact_match(*rnn) > 95


def test_a_transformer_learns_to_reverse(tmp_path: Path) -> None:
    assert exact_match(*learn(tmp_path, "transformer", reversal)) > 95


def test_one_model_learns_two_tasks_told_apart_by_a_tag(tmp_path: Path) -> None:
    run, rows = learn(tmp_path, "transformer", copy_or_reversal)
    for tag in ("copy", "reverse"):
        assert exact_match(run, [row for row in rows if row["tag"] == tag]) > 90
    reverse, copy = run.predictor.predict([{"source": "12345", "tag": tag} for tag in ("reverse", "copy")])
    assert (reverse.text, copy.text) == ("54321", "12345")


def looked_at(maps: AttentionMaps) -> list[int]:
    """For every digit of the answer, which digit of the source had most of the attention."""
    source, target = (
        [place for place, piece in enumerate(side) if piece.isdigit()] for side in (maps.source, maps.target)
    )
    best: list[int] = maps.maps["cross/average"][0][target][:, source].argmax(1).tolist()
    return best


def test_reversing_looks_from_the_end_to_the_start(rnn: tuple[Run, list[Row]]) -> None:
    run, rows = rnn
    right = []
    for answer in run.predictor.predict(rows[:50]):
        looked = looked_at(answer.attention)
        right += [place == wanted for place, wanted in zip(looked, reversed(range(len(looked))), strict=True)]
    assert len(right) > 200
    assert sum(right) / len(right) > 0.8
