"""Forecasts: planned from a plain table, learnt, beside the last season again, looked at; every kind of model."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from sklearn.linear_model import Ridge as RidgeRegression
from sklearn.metrics import mean_pinball_loss

import regard
from regard.api import Run, propose
from regard.cli.main import main
from regard.data.rows import TextRows
from regard.data.series import Series, Windows
from regard.data.series_files import SeriesFiles
from regard.data.times import Clock
from regard.data.tokenisers import Vocabulary
from regard.decoding.search import Search
from regard.errors import DataError, InputError, RunError, SettingsError
from regard.inspection.alignment import AttentionMaps
from regard.inspection.curves import sketch
from regard.layers.series import Patches
from regard.models.model import ModelSettings
from regard.padded import Padded, pad
from regard.recipe import Recipe
from regard.tasks.baselines.ridge import RIDGE_FILE, STRENGTHS, Ridge
from regard.tasks.forecast import Forecast, ForecastSettings
from regard.tasks.forecasted import Forecasted
from regard.tasks.task import Batch
from regard.training.objective import build_objective

SMALL = ["training.steps=400", "training.evaluate_every=100", "training.precision=fp32", "task.input=48"]
KINDS = ["linear", "patch", "inverted", "rnn", "seq2seq", "transformer", "convolutional", "tcn", "decoder_only"]


def waves(steps: int, seed: int = 1) -> np.ndarray:
    """A day's load that rises slowly, and the heat that follows three hours later, with noise."""
    draw, hours = np.random.default_rng(seed), np.arange(steps)
    load = 50 + 0.01 * hours + 10 * np.sin(hours * np.pi / 12) + 2 * draw.normal(size=steps)
    return np.stack([load, 1e-3 * np.roll(load, 3) + 1e-3 * draw.normal(size=steps)], 1)


def series(steps: int = 300, seed: int = 1) -> Series:
    return Series("plant", ("load", "heat"), Clock(unit="second", step=3600, phase=0), 0, waves(steps, seed))


def written(path: Path, one: Series) -> str:
    rows = [f"{time},{load:.6f},{heat:.9f}" for time, (load, heat) in zip(one.times, one.values.tolist(), strict=True)]
    path.write_text("\n".join(["time,load,heat", *rows]) + "\n")
    return str(path)


def a_task(**settings: object) -> Forecast:
    asked = ForecastSettings(**{"input": 20, "horizon": 6, **settings})
    return asked.learn(Windows([series()], asked.input, asked.horizon), Vocabulary())


def a_model(task: Forecast, kind: str, **more: object) -> torch.nn.Module:
    settings = {"kind": kind, "width": 8, "dropout": 0.0, **more}
    return build_objective(task, ModelSettings.model_validate(settings), 1).model.eval()


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("forecast")
    table = written(folder / "plant.csv", series(900))
    return regard.train(table, horizon=12, out=folder / "run", settings=SMALL, device="cpu")


def test_a_plain_table_is_learnt(run: Run) -> None:
    recipe, scores, baseline = run.predictor.recipe, run.scores, run.trained.baseline
    assert recipe.task.kind == "forecast" and (recipe.task.input, recipe.task.horizon) == (48, 12)
    assert run.predictor.task.scale.season == 24
    assert scores["mse"] < 0.7 * baseline["mse"] and scores["mase"] < 0.85 < baseline["mase"]
    assert "seasonal naive" in (run.path / "README.md").read_text()


def test_learnt_quantiles_hold_their_share(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table, changes = written(tmp_path / "plant.csv", series(900)), [*SMALL, "task.quantiles=[0.1, 0.5, 0.9]"]
    made = regard.train(table, horizon=12, out=tmp_path / "run", settings=changes, device="cpu")
    whole = series(900)
    rows = [(whole[:end], whole.values[end : end + 12]) for end in range(720, 888, 6)]
    answers = made.predictor.predict([{"source": past} for past, _ in rows])
    inside = [
        (one.quantiles["0.1"] <= true) & (true <= one.quantiles["0.9"])
        for one, (_, true) in zip(answers, rows, strict=True)
    ]
    assert 0.6 < np.mean(inside) < 0.95
    assert main(["predict", str(made.path), table]) == 0
    header = capsys.readouterr().out.splitlines()[0].split("\t")
    assert header[2:] == [
        "load",
        "heat",
        *(f"{name} {one}" for one in ("0.1", "0.5", "0.9") for name in ("load", "heat")),
    ]


def test_answers_are_numbers_at_times(run: Run) -> None:
    past = series(900)[:500]
    [answer] = run.predictor.predict([{"source": past}])
    told = answer.to_json()
    assert told["variables"] == ["load", "heat"] and told["times"] == series(512).times[500:]
    errors = np.array(told["values"]) - series(900).values[500:512]
    assert (np.abs(errors).mean(0) < [3, 5e-3]).all()
    same = {"source": past.values[-48:].tolist(), "start": past.times[-48]}
    [other] = run.predictor.predict([same])
    assert other.times == answer.times and other.values == pytest.approx(answer.values)


def test_from_the_command_line(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = written(tmp_path / "plant.csv", series(200))
    assert main(["predict", str(run.path), table]) == 0
    header, *lines = [line.split("\t") for line in capsys.readouterr().out.splitlines()]
    assert header == ["series", "time", "load", "heat"] and len(lines) == 12
    assert lines[0][:2] == ["plant", series(201).times[-1]]
    assert main(["predict", str(run.path), table, "--json"]) == 0
    assert np.shape(json.loads(capsys.readouterr().out)["values"]) == (12, 2)
    assert main(["evaluate", str(run.path), table, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["rows"] == 200 - 48 - 12 + 1 and told["scores"]["mse"] < told["baseline"]["mse"]
    assert main(["inspect", str(run.path), table, "--out", str(tmp_path / "a.html")]) == 0


def test_planning_looks_back_as_far_as_helps(tmp_path: Path) -> None:
    _, plan = propose(written(tmp_path / "a.csv", series(900)), target="heat", out=tmp_path / "run")
    reasons = dict(plan.reasons)
    assert (plan.recipe.task.input, plan.recipe.task.horizon) == (96, 24)
    assert reasons["windows"] == "look back 96 steps and ahead 24 (--horizon): changes come again every 24 steps"
    assert plan.task.scale.variables == ("heat",) and "vocabulary" not in reasons


def test_a_series_that_the_model_cannot_read(run: Run) -> None:
    with pytest.raises(DataError, match="has 30 steps, and the model looks back 48"):
        run.predictor.predict([{"source": series(30)}])
    one = series(60)
    other = Series("b", ("load", "cold"), one.clock, 0, one.values)
    with pytest.raises(DataError, match="no column 'heat'"):
        run.predictor.predict([{"source": other}])
    daily = Series("c", one.variables, Clock(unit="second", step=86400, phase=0), 0, one.values)
    with pytest.raises(DataError, match="has a step every day, and the model every hour"):
        run.predictor.predict([{"source": daily}])
    for wrong in ("text", {"source": [[1.0]], "start": "2024-01-01"}, {"source": [["x", "y"]], "start": "2024-01-01"}):
        with pytest.raises(DataError):
            run.predictor.predict([wrong])
    with pytest.raises(DataError, match="no beginning"):
        run.predictor.predict([{"source": one}], prefixes=["1.0"])


@pytest.mark.parametrize("content", ["", "[]", '{"variables": ["load"]}', "9" * 5000])
def test_damaged_files_are_named(run: Run, tmp_path: Path, content: str) -> None:
    for file in run.path.rglob("*"):
        if file.is_file():
            (tmp_path / file.relative_to(run.path)).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / file.relative_to(run.path)).write_bytes(file.read_bytes())
    (tmp_path / "fields" / "series.json").write_text(content)
    with pytest.raises(RunError, match="missing or damaged: no scale"):
        regard.load(tmp_path, "cpu")


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_forecasts_at_the_level_of_its_window(kind: str) -> None:
    """A window moved and stretched has its forecast moved and stretched alike; the loss is that of the answers."""
    task, windows = a_task(), Windows([series()], 20, 6)
    model = a_model(task, kind)
    rows = [task.example(windows[place]) for place in (0, 40, 80)]
    source, target = (pad([row[side] for row in rows]) for side in (0, 1))
    with torch.no_grad():
        plain = np.stack([one.values for one in task.predict(model, source, Search())])
        moved = np.stack(
            [one.values for one in task.predict(model, source._replace(values=source.values * 3 + 5), Search())]
        )
        loss = task.loss(model, Batch(source, target))
    assert plain.shape == (3, 6, 2)
    assert task.scale.apply(moved) == pytest.approx(3 * task.scale.apply(plain) + 5, abs=2e-3)
    wanted = np.mean((task.scale.apply(plain) - target.values.numpy()) ** 2)
    assert float(loss.total) / loss.count == pytest.approx(wanted, rel=1e-4)


@pytest.mark.parametrize(("kind", "apart"), [("linear", True), ("patch", True), ("inverted", False)])
def test_which_kinds_read_each_variable_by_itself(kind: str, apart: bool) -> None:
    task = a_task()
    model, values = a_model(task, kind), torch.randn(1, 20, 2)
    changed = values.clone()
    changed[..., 1] = torch.randn(20)
    lengths = torch.tensor([20])
    with torch.no_grad():
        one, other = (task._ahead(model, Padded(each, lengths)) for each in (values, changed))
        first, second = (model.head.values(decoded, memory.head)[..., 0, 0] for memory, decoded in (one, other))
    assert torch.allclose(first, second, atol=1e-6) == apart


def test_the_linear_model_is_its_formula() -> None:
    task = a_task()
    model, source = a_model(task, "linear"), pad([task.source({"source": series()})])
    weight, bias = model.decoder.projection.weight.detach().numpy(), model.decoder.projection.bias.detach().numpy()
    window = source.values[0].numpy()
    for at in range(2):
        mean, deviation = window[:, at].mean(), np.sqrt(window[:, at].var() + 1e-5)
        wanted = (weight @ ((window[:, at] - mean) / deviation) + bias) * deviation + mean
        with torch.no_grad():
            [answer] = task.predict(model, source, Search())
        assert task.scale.apply(answer.values)[:, at] == pytest.approx(wanted, abs=1e-4)


def test_patches_are_pieces_that_overlap() -> None:
    torch.manual_seed(1)
    patches, steps = Patches(96, 16, 8, 5), torch.randn(2, 96)
    assert patches.number == 12 and Patches(10, 16, 8, 5).number == 2
    longer = torch.cat([steps, steps[:, -1:].repeat(1, 8)], 1)
    wanted = torch.stack([patches.projection(longer[:, 8 * at : 8 * at + 16]) for at in range(12)], 1)
    assert torch.allclose(patches(steps), wanted)


def test_quantiles_are_learnt_and_never_cross() -> None:
    task = a_task(quantiles=(0.1, 0.5, 0.9))
    model, windows = a_model(task, "inverted"), Windows([series()], 20, 6)
    rows = [windows[place] for place in range(5)]
    source, target = (pad([task.example(row)[side] for row in rows]) for side in (0, 1))
    memory, decoded = task._ahead(model, source)
    values = model.head.values(decoded, memory.head).detach().numpy()
    loss = model.head.loss(decoded, target, memory.head)
    true = target.values.numpy().ravel()
    peer = [mean_pinball_loss(true, values[..., at].ravel(), alpha=q) for at, q in enumerate((0.1, 0.5, 0.9))]
    assert float(loss.total.detach()) / loss.count == pytest.approx(np.mean(peer), rel=1e-5)
    with torch.no_grad():
        answers = task.predict(model, source, Search())
    for answer in answers:
        low, middle, high = answer.quantiles.values()
        assert (low <= middle).all() and (middle <= high).all() and (answer.values == middle).all()
    assert {*task.score(answers, rows).values} == {*task.score(task.baseline(rows), rows).values}
    assert [*answers[0].within(rows[0]).to_json()["quantiles"]] == ["0.1", "0.5", "0.9"]
    with pytest.raises(ValidationError, match="quantiles rise"):
        ForecastSettings(quantiles=(0.9, 0.5))


def test_the_baseline_is_the_last_season_again() -> None:
    task, one = a_task(input=48, horizon=30), series(100)
    [answer] = task.baseline([{"source": one[:70]}])
    assert task.scale.season == 24
    assert answer.values.tolist() == [one.values[70 - 24 + step % 24].tolist() for step in range(30)]


def test_ridge_regression_is_scikit_learns(tmp_path: Path) -> None:
    """One matrix for all variables, of windows less their mean; any strength that could have been chosen."""
    task, one = a_task(baseline="ridge"), series()
    scaled = task.scale.apply(one.values)
    starts = range(len(one) - 26 + 1)
    past = np.stack([scaled[at : at + 20, name] for at in starts for name in range(2)])
    future = np.stack([scaled[at + 20 : at + 26, name] for at in starts for name in range(2)])
    mean = past.mean(1, keepdims=True)
    peers = [RidgeRegression(strength, fit_intercept=False).fit(past - mean, future - mean) for strength in STRENGTHS]
    differences = [np.abs(peer.coef_.T - task.ridge.weights.numpy()).max() for peer in peers]
    assert min(differences) < 1e-8
    [answer] = task.baseline([{"source": one[:100]}])
    last = scaled[80:100] - scaled[80:100].mean(0)
    wanted = peers[int(np.argmin(differences))].predict(last.T).T + scaled[80:100].mean(0)
    assert task.scale.apply(answer.values) == pytest.approx(wanted) and task.baseline_name == "ridge regression"
    (tmp_path / RIDGE_FILE).write_bytes(task.files[RIDGE_FILE])
    assert torch.equal(Ridge.load(lambda name, most: tmp_path / name, 20, 6).weights, task.ridge.weights)
    (tmp_path / RIDGE_FILE).write_bytes(task.files[RIDGE_FILE][:-9])
    with pytest.raises(RunError, match="missing or damaged: no 20 x 6 weights"):
        Ridge.load(lambda name, most: tmp_path / name, 20, 6)


@pytest.mark.parametrize(
    ("kind", "names"),
    [
        ("rnn", ("1970-01-01 06:00", "1970-01-02 05:00", 24)),
        ("patch", ("1970-01-01 06:00", "1970-01-01 22:00", 3)),
        ("inverted", ("load", "heat", 2)),
    ],
)
def test_what_was_looked_at_is_called_by_its_time(kind: str, names: tuple[str, str, int]) -> None:
    task, past = a_task(input=24), series(30)
    model = a_model(task, kind)
    source = task.source({"source": past})
    found = Forecasted("", 0.0, values=np.zeros((6, 2)), look=lambda: task.look(model, source, ()))
    maps = found.within({"source": past}).attention
    words = [word.text for word in maps.words["source"]]
    assert (words[0], words[-1], len(words)) == names
    assert maps.words["target"][0].text == "1970-01-02 06:00" and len(maps.words["target"]) == 6
    assert maps.maps and all(torch.allclose(one.sum(-1), torch.ones(())) for one in maps.maps.values())
    assert ("cross/average" in maps.maps) == (kind == "rnn")
    assert maps.backdrop is None if kind == "inverted" else len(maps.backdrop.boxes) == len(words)


def test_patches_are_called_by_the_step_they_begin_at() -> None:
    task, past = a_task(input=28), series(30)
    for stride, begins in ((8, [28, 20, 12]), (16, [28, 12])):
        model = a_model(task, "patch", encoder={"stride": stride})
        maps = task.look(model, task.source({"source": past}), ())
        assert list(maps.source) == [f"▁-{begin}" for begin in begins] and "encoder/0/self" in maps.maps
        assert maps.backdrop.boxes[1][0] == maps.backdrop.pixels.shape[1] * stride / 28


def test_a_start_beside_the_clock_is_refused(run: Run) -> None:
    past = [[50.0, 0.05]] * 48
    for start in ("2024-01-31 00:30", "2024-01-31T00:00Z"):
        with pytest.raises(DataError, match="which has a step every hour") as caught:
            run.predictor.predict([{"source": past, "start": start}])
        assert "2024-01-31 00:00" in str(caught.value.hint)


def test_what_cannot_be_put_together_is_refused() -> None:
    with pytest.raises(DataError, match="windows of series, and these rows are none"):
        ForecastSettings().learn(TextRows.of([{"source": "a", "target": "b"}]), Vocabulary())
    with pytest.raises(SettingsError, match="series are there to forecast"):
        Recipe(data=SeriesFiles(train=("a.csv",))).corpus()
    with pytest.raises(ValidationError, match="flatten needs an encoder of variables"):
        ModelSettings.model_validate({"kind": "rnn", "decoder": {"kind": "flatten"}})


def test_windows_are_not_drawn_again(run: Run) -> None:
    with pytest.raises(InputError, match="windows of a series overlap"):
        run.predictor.compare(run.predictor, [])


def test_curves_in_a_line() -> None:
    assert sketch(np.array([0.0, 1.0, 2.0])) == "0 ▁▅█ 2" and sketch(np.ones(2)) == "1 ▁▁ 1" and not sketch(np.zeros(0))
    assert len(sketch(np.arange(1000.0)).split()[1]) == 48


def test_a_forecast_is_drawn() -> None:
    band = {"0.1": waves(6) - 1, "0.5": waves(6), "0.9": waves(6) + 1}
    figure = Forecasted("", 0.0, values=waves(6), quantiles=band, past=series(30)).plot()
    assert [axes.get_ylabel() for axes in figure.axes] == ["load", "heat"] and len(figure.axes[0].lines) == 2
    median = {"0.5": waves(6)}
    assert Forecasted("", 0.0, values=waves(6), quantiles=median, past=series(30)).plot().axes


def test_the_past_is_shaded_where_it_was_looked_at() -> None:
    """Two parts, of five and of three steps; half of what looked at the first looked at the second."""
    weights = torch.tensor([[[0.8, 0.2], [0.7, 0.3]], [[0.6, 0.4], [0.5, 0.5]]])  # of two heads
    looks = {
        "encoder/0/self": AttentionMaps.of(["▁-8", "▁-3"], ["▁+1", "▁+2"], {"encoder/0/self": weights}),
        "decoder/cross": AttentionMaps.of(["▁-8", "▁-3"], ["▁+1", "▁+2"], {"decoder/cross": weights}),
    }
    for maps in looks.values():
        drawn = Forecasted("", 0.0, values=waves(2), past=series(30), look=lambda maps=maps: maps).plot().axes[0]
        [first, second] = drawn.patches
        assert (first.get_x(), first.get_width(), second.get_x(), second.get_width()) == (-8.5, 5, -3.5, 3)
        assert second.get_alpha() / first.get_alpha() == pytest.approx(0.35 / 0.65)
        assert drawn.lines[0].get_xdata().tolist() == [*range(-8, 0)]
    variables = AttentionMaps.of(["▁load", "▁heat"], ["▁+1", "▁+2"], {"encoder/0/self": weights})
    assert not Forecasted("", 0.0, values=waves(2), past=series(30), look=lambda: variables).plot().axes[0].patches
