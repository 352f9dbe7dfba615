"""What keeps a model from learning its data by heart: other pieces of the same text, agreement between two drops."""

from pathlib import Path

import pytest
import torch

import regard
from regard.data.fields import TextField
from regard.data.rows import TextRows
from regard.data.tokenisers import END, Vocabulary, learn_tokeniser
from regard.models.model import ModelSettings
from regard.tasks.encoded import encode
from regard.tasks.generate import Generate, GenerateSettings
from regard.training.objective import build_objective

WORDS = "red green blue yellow small large round square apple orange banana cherry".split()
ROWS = [{"source": f"a {a} {b}", "target": f"{b} {a} <s>", "tag": "xx"} for a in WORDS for b in WORDS]
SIDE = {"layers": 1, "heads": 2, "feedforward": 16, "attention_dropout": 0.0}


@pytest.fixture(scope="module")
def field() -> TextField:
    texts = [row[side] for row in ROWS for side in ("source", "target")]
    return TextField(learn_tokeniser(texts, Vocabulary(size=400), ["xx"]))


def test_other_pieces_of_the_same_text(field: TextField) -> None:
    ids = field.source(ROWS[17])
    torch.manual_seed(1)
    drawn = [field.resample(ids, 0.05) for _ in range(20)]
    assert len({tuple(one) for one in drawn}) > 3
    assert {field.decode(one) for one in drawn} == {ROWS[17]["source"]}
    assert {one[0] for one in drawn} == {ids[0]} and {one[-1] for one in drawn} == {END}
    torch.manual_seed(1)
    assert [field.resample(ids, 0.05) for _ in range(20)] == drawn
    assert field.resample(ids, 100.0) == ids


def test_batches_are_drawn_from_the_step(field: TextField) -> None:
    rows = torch.arange(40).numpy()
    plain = encode(Generate(GenerateSettings(), field), TextRows.of(ROWS)).batch(rows)
    examples = encode(Generate(GenerateSettings(), field, sampling=0.05), TextRows.of(ROWS))

    def drawn(seed: int) -> list[list[int]]:
        torch.manual_seed(seed)
        return examples.batch(rows).target.values.tolist()

    assert drawn(1) == drawn(1) != drawn(2)
    assert drawn(1) != plain.target.values.tolist()


def test_two_drops_that_agree_cost_nothing(field: TextField) -> None:
    def loss(consistency: float, dropout: float) -> tuple[float, float]:
        task = Generate(GenerateSettings(consistency=consistency), field)
        model = {"width": 16, "dropout": dropout, "encoder": SIDE, "decoder": SIDE}
        objective = build_objective(task, ModelSettings.model_validate(model), seed=1)
        torch.manual_seed(1)
        found = objective(encode(task, TextRows.of(ROWS)).batch(torch.arange(8).numpy()))
        return float(found.total.detach()), float(found.parts.get("divergence", 0))

    assert loss(5.0, 0.0) == pytest.approx(loss(0.0, 0.0), rel=1e-6)
    apart = loss(5.0, 0.5)
    assert apart[1] > 0.1
    assert apart[0] - loss(1e-9, 0.5)[0] == pytest.approx(5 / 4 * apart[1], rel=1e-3)


def test_a_resumed_run_draws_the_same(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{row['source']}\t{row['target']}\n" for row in ROWS))
    settings = ["vocabulary.sampling=0.2", "task.consistency=2", "model.width=16", "training.precision=fp32"]
    settings += ["model.encoder.layers=1", "model.decoder.layers=1", "training.evaluate_every=3"]
    settings += ["training.checkpoint_every=3", "training.optimisation.warmup=2"]
    whole = [*settings, "training.steps=6"]
    regard.train(path, out=tmp_path / "whole", settings=whole)
    regard.train(path, out=tmp_path / "again", settings=whole)
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("whole", "again")]
    assert weights[0] == weights[1]
