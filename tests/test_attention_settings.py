"""Attention chosen by settings: trained, written to the recipe, loaded again; what does not fit is refused before."""

from pathlib import Path

import pytest

import regard
from regard.errors import SettingsError
from small_runs import SMALL, write_pairs

TINY = [*SMALL, "training.steps=2", "training.evaluate_every=2", "training.dev_rows=4"]
TRANSFORMER = [*TINY, *(f"model.{side}.{size}" for side in ("encoder", "decoder") for size in ("layers=1", "heads=2"))]

CHOSEN = {
    "window": ["model.encoder.attention.where.kind=window", "model.encoder.attention.where.back=3"],
    "composed": ["model.encoder.attention.where={kind: any, of: [{kind: window, back: 2, ahead: 2}, {kind: global}]}"],
    "entmax": ["model.decoder.cross_attention.norm={kind: entmax, learned: true}"],
    "latent": ["model.decoder.attention.layout={kind: latent, rank: 8, turned: 4}"],
    "positions": ["model.encoder.positions={kind: sum, of: [{kind: rotary}, {kind: alibi}]}"],
    "stepping": ["model.kind=rnn", "model.decoder.attention.score={kind: location_sensitive, kernel: 5}"],
    "mixture": ["model.kind=rnn", "model.decoder.attention={score: {kind: mixture}, norm: {kind: exponential}}"],
    "monotonic": ["model.kind=rnn", "model.decoder.attention.norm={kind: monotonic}"],
}
REFUSED = {
    "score and layout": (
        ["model.encoder.attention.layout.kind=latent", "model.encoder.attention.score.kind=general"],
        "the latent layout is made for the scaled_dot score, not for general",
    ),
    "mixture without its norm": (
        ["model.kind=rnn", "model.decoder.attention.score.kind=mixture"],
        "a mixture score goes with its own norm",
    ),
    "a stepping score at once": (
        ["model.decoder.attention.score.kind=location_sensitive"],
        "no kind 'location_sensitive'\n  known: ",
    ),
    "heads that do not divide": (
        ["model.encoder.attention.layout={kind: grouped, kv_heads: 3}"],
        "2 heads and 3 of keys and values do not divide evenly",
    ),
    "two rotations": (
        ["model.encoder.positions={kind: sum, of: [{kind: rotary}, {kind: rotary}]}"],
        "only one may be rotary",
    ),
    "pairs that cannot be turned": (
        ["model.encoder.positions={kind: rotary, share: 0.1}"],
        "cannot be paired",
    ),
    "an unknown pattern": (
        ["model.encoder.attention.where.kind=windows"],
        "no kind 'windows'\n  did you mean 'window'",
    ),
    "a setting of another pattern": (
        ["model.encoder.attention.where.kind=window", "model.encoder.attention.where.size=3"],
        "no setting 'model.encoder.attention.where.size'",
    ),
}


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    return write_pairs(tmp_path / "train.tsv", 60, seed=1)


@pytest.mark.parametrize("name", CHOSEN)
def test_chosen_by_settings(name: str, tmp_path: Path, pairs: Path) -> None:
    out = tmp_path / "run"
    run = regard.train(pairs, out=out, settings=[*(TINY if "rnn" in CHOSEN[name][0] else TRANSFORMER), *CHOSEN[name]])
    rows = [{"source": "12345"}, {"source": "9"}]
    answers = [answer.text for answer in run.predictor.predict(rows)]
    assert answers == [answer.text for answer in regard.load(out).predict(rows)]
    kind = {"composed": "kind: any", "positions": "kind: alibi", "stepping": "location_sensitive"}.get(name, name)
    assert kind in (out / "recipe.yaml").read_text("utf-8")


@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_training(name: str, tmp_path: Path, pairs: Path) -> None:
    settings, message = REFUSED[name]
    base = TINY if "model.kind=rnn" in settings else TRANSFORMER
    with pytest.raises(SettingsError, match=message):
        regard.train(pairs, out=tmp_path / "run", settings=[*base, *settings])
    assert not (tmp_path / "run").exists()
