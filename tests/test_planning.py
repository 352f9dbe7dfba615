"""Plans: sizes and reasons, what was asked wins, and a run goes on only as it began."""

import re
from pathlib import Path
from typing import Any

import pytest

import regard
from regard import timing
from regard.api import propose
from regard.data.pairs import read_rows
from regard.errors import InputError, RunError, SettingsError
from regard.models import model
from regard.models.parts import Size
from regard.planning import Request, plan, seconds
from regard.recipe import Recipe
from regard.settings import is_set, to_yaml
from regard.training.loop import Training
from small_runs import CPU, SMALL, small, tree, write_pairs


def asked(folder: Path, **more: Any) -> dict[str, Any]:
    return {
        "out": folder / "run",
        "dev": [str(folder / "dev.tsv")],
        "settings": [*SMALL, "model.kind=rnn"],
        "device": "cpu",
    } | more


@pytest.fixture
def files(tmp_path: Path) -> Path:
    write_pairs(tmp_path / "dev.tsv", 12, seed=2)
    return write_pairs(tmp_path / "train.tsv", 300, seed=1)


def test_a_run_from_python(tmp_path: Path, files: Path) -> None:
    run = regard.train(files, **asked(tmp_path))
    made = {"recipe.yaml", "fields", "checkpoints", "metrics.jsonl", "model.safetensors", "report.html", "README.md"}
    assert {path.name for path in run.path.iterdir()} == made | {".lock"}
    dev, _ = read_rows([str(tmp_path / "dev.tsv")], None, None, None)
    assert run.scores == run.predictor.evaluate(dev).scores.values
    assert propose(files, **asked(tmp_path))[1].reasons == [
        ("finished", f"{run.path} is trained to its end; another --out begins anew")
    ]
    assert regard.train(files, **asked(tmp_path)).trained == run.trained


@pytest.fixture
def timed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Measuring always finds 20 ms a step in bf16 and 50 in fp32, and that answers take no time."""
    found = {"bf16": 0.02, "fp32": 0.05, "answer": 0.0}
    monkeypatch.setattr(timing, "seconds_per_call", lambda calls, rounds: {name: found[name] for name in calls})


def begin(*files: Path, **request: Any) -> Recipe:
    """A run that has not got beyond its recipe."""
    folder, made = propose(*files, **request)
    with folder.lock():
        folder.create(made.recipe, made.task.files, made.corpus.fingerprint)
    return made.recipe


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"settings": ["training.steps=30", "model.width=32", "model.width=16"]}, "training.steps=30"),
        ({"settings": ["model.kind=transformer"]}, "model.kind=transformer"),
        ({"settings": ["data.max_characters=100"]}, "data.max_characters=100"),
        ({"seed": 2}, "training.seed=2"),
        ({"source": "target", "target": "source"}, "data"),
    ],
)
@pytest.mark.usefixtures("timed")
def test_a_command_with_other_settings_is_refused(
    tmp_path: Path, files: Path, changes: dict[str, Any], named: str
) -> None:
    begin(files, **asked(tmp_path))
    found = tree(tmp_path)
    with pytest.raises(RunError, match=rf"began with other settings: {re.escape(named)}\n") as caught:
        regard.train(files, **asked(tmp_path, **changes))
    assert caught.value.where == str(tmp_path / "run")
    assert tree(tmp_path) == found


REPEATED = ["model.width=32", "model.width=16", "model.kind=rnn", "model.encoder.layers=2", "training.seed=3"]


@pytest.mark.usefixtures("timed")
def test_the_same_command_is_not_refused(tmp_path: Path, files: Path) -> None:
    request = asked(tmp_path, settings=[*REPEATED, "data.max_characters=99"], seed=4, time_limit="60s")
    recipe = begin(files, **request)
    assert propose(files, **request)[1].reasons[0][0] == "going on"
    assert (recipe.training.seed, recipe.model.width, recipe.training.steps) == (4, 16, 2700)
    assert propose(files, **request)[1].recipe == recipe


def test_kinds_reset_only_what_lies_inside_them(tmp_path: Path, files: Path) -> None:
    inner = "model.decoder.attention.score.kind=cosine"
    made = propose(files, **asked(tmp_path, settings=[*SMALL, inner, "model.kind=rnn"]))[1].recipe
    assert is_set(made, inner) and is_set(made, "model.kind=rnn")


def test_a_whole_part_is_set_before_what_lies_inside_it(tmp_path: Path, files: Path) -> None:
    inner = "model.decoder.attention.score.kind=cosine"
    made = propose(files, **asked(tmp_path, settings=[*SMALL, inner, "model.decoder={kind: rnn}"]))[1].recipe
    assert is_set(made, inner)


@pytest.mark.usefixtures("timed")
def test_a_whole_model_overrules_smaller_ones(tmp_path: Path, files: Path) -> None:
    request = asked(tmp_path, settings=["model={width: 512}"], time_limit="2s")
    made = propose(files, **request)[1]
    assert made.recipe.model.width == 512
    assert dict(made.reasons)["model"].endswith("but as asked, model={width: 512}")


def written(folder: Path, *changes: str) -> dict[str, Any]:
    """A request for a recipe in a file."""
    (folder / "mine.yaml").write_text(
        to_yaml(small(folder, "transformer", "training.precision=measure", *changes).recipe)
    )
    return {"recipe": str(folder / "mine.yaml"), "out": folder / "run", "device": "cpu"}


@pytest.mark.parametrize("more", [{}, {"settings": REPEATED, "seed": 4}, {"time_limit": "60s"}])
@pytest.mark.usefixtures("timed")
def test_the_same_command_with_a_recipe_is_not_refused(tmp_path: Path, more: dict[str, Any]) -> None:
    request = written(tmp_path) | more
    recipe = begin(**request)
    assert recipe.training.precision == "bf16"
    assert propose(**request)[1].recipe == recipe


@pytest.mark.parametrize(
    ("change", "named"),
    [("batching.tokens=64", "batching"), ("training.steps=25", "training"), ("model.width=32", "model")],
)
@pytest.mark.usefixtures("timed")
def test_a_recipe_that_was_changed_is_refused(tmp_path: Path, change: str, named: str) -> None:
    begin(**written(tmp_path))
    with pytest.raises(RunError, match=rf"began with other settings: {named}\n"):
        propose(**written(tmp_path, change))


@pytest.mark.parametrize(
    ("wrong", "told"), [({"time_limit": "soon"}, "'soon' is not a time"), ({"device": "tpu"}, "no device 'tpu' here")]
)
@pytest.mark.usefixtures("timed")
def test_what_cannot_be_is_refused_also_when_there_is_a_run(
    tmp_path: Path, files: Path, wrong: dict[str, Any], told: str
) -> None:
    begin(files, **asked(tmp_path))
    with pytest.raises(InputError, match=told):
        propose(files, **asked(tmp_path, **wrong))


@pytest.mark.usefixtures("timed")
def test_changed_files_are_refused(tmp_path: Path, files: Path) -> None:
    begin(files, **asked(tmp_path))
    write_pairs(files, 301, seed=1)
    found = tree(tmp_path)
    with pytest.raises(RunError, match="the data has changed since this run began"):
        regard.train(files, **asked(tmp_path))
    assert tree(tmp_path) == found


@pytest.mark.parametrize(
    "wrong",
    [
        {"settings": ["training.stps=5"]},
        {"settings": ["training.steps=0"]},
        {"settings": ["model.width=15"]},
        {"time_limit": "soon"},
        {"source": "no such column"},
        {"dev": ["no such file"]},
        {"recipe": "no such recipe"},
    ],
)
def test_what_is_refused_leaves_nothing_behind(tmp_path: Path, files: Path, wrong: dict[str, Any]) -> None:
    found = tree(tmp_path)
    with pytest.raises(InputError) as caught:
        regard.train(files, **asked(tmp_path, **wrong))
    assert caught.value.exit_status == 2
    assert tree(tmp_path) == found


@pytest.mark.usefixtures("timed")
def test_a_plan_has_sizes_and_reasons(tmp_path: Path, files: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = tree(tmp_path)
    folder, made = propose(files, device="cpu")
    assert (folder.path, tree(tmp_path)) == (Path("runs/train"), found)
    reasons = dict(made.reasons)
    assert [*reasons] == ["data", "vocabulary", "model", "batch", "steps", "precision", "time", "weights"]
    assert all(reasons.values())
    recipe = made.recipe
    assert (recipe.vocabulary.size, recipe.model.width, recipe.batching.tokens) == (500, 128, 512)
    assert (recipe.training.steps, recipe.training.patience, recipe.training.precision) == (2000, 8, "bf16")
    assert recipe.training.optimisation.learning_rate == 0.4 / 128
    assert "2.5 x as fast" in reasons["precision"]
    assert reasons["time"] == "about 44 s: 2,000 updates of 20 ms"


@pytest.mark.usefixtures("timed")
def test_what_is_set_wins_over_what_is_proposed(files: Path) -> None:
    settings = {
        "model.kind": "rnn",
        "model.width": 32,
        "vocabulary.size": 400,
        "batching.tokens": 300,
        "training.steps": 77,
        "training.precision": "fp32",
        "training.optimisation.learning_rate": 0.01,
    }
    request = Request(
        [str(files)], time_limit="1h", seed=5, settings=[f"{path}={value}" for path, value in settings.items()]
    )
    made = plan(request, CPU)
    assert all(is_set(made.recipe, one) for one in request.settings)
    assert made.recipe.model.encoder.kind == "rnn"
    assert made.recipe.training.seed == 5
    assert "precision" not in dict(made.reasons)


@pytest.mark.usefixtures("timed")
def test_what_is_set_steers_what_is_proposed(files: Path) -> None:
    def planned(*settings: str) -> Training:
        return plan(Request([str(files)], settings=settings), CPU).recipe.training

    alone, accumulated, wide = planned(), planned("training.accumulate=2"), planned("model.width=64")
    assert alone.optimisation.learning_rate == 0.4 / 128 and wide.optimisation.learning_rate == 0.4 / 64
    told = [
        dict(plan(Request([str(files)], settings=one), CPU).reasons)["steps"]
        for one in ([], ["training.accumulate=2"], ["batching.tokens=100000"], ["training.seed=9"])
    ]
    passes = [int(re.search(r"(\d+) times over", one)[1]) for one in told]
    assert alone.steps == accumulated.steps == 2000
    assert passes == [500, 1000, 2000, 500] and "as asked" not in told[3]


@pytest.mark.parametrize(
    ("text", "expected"), [("90", 90), ("90s", 90), ("1.5m", 90), ("30m", 1800), ("2h", 7200), (" 2 h ", 7200)]
)
def test_time_limits(text: str, expected: float) -> None:
    assert seconds(text) == expected


@pytest.mark.parametrize("text", ["", "soon", "0", "0.0s", "-3m", "1d", "1h30m", "nan", "1e9"])
def test_time_limits_that_are_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="is not a time") as caught:
        seconds(text)
    assert caught.value.where == "--time-limit"


@pytest.mark.parametrize(
    ("limit", "changes", "steps", "every"),
    [
        ("60s", [], 2700, 135),  # 90 % of 60 s at 20 ms
        ("1m", ["training.precision=fp32"], 1080, 54),
        ("1m", ["training.accumulate=3"], 900, 50),
        ("0.1s", [], 20, 50),
    ],
)
@pytest.mark.usefixtures("timed")
def test_steps_that_fit_a_time_limit(files: Path, limit: str, changes: list[str], steps: int, every: int) -> None:
    training = plan(Request([str(files)], time_limit=limit, settings=changes), CPU).recipe.training
    assert (training.steps, training.evaluate_every, training.checkpoint_every) == (steps, every, every)
    assert training.optimisation.warmup == max(steps // 8, 20)


@pytest.mark.parametrize(
    ("evaluation", "steps", "evaluations", "expected"),
    [
        (0.0, 4500, 20, 100),
        (0.5, 4500, 20, 100),
        (2.0, 4500, 5, 100),
        (5.0, 4000, 4, 100),
        (50.0, 2500, 4, 250),
    ],
)
def test_evaluations_have_their_share_of_a_limit(
    evaluation: float, steps: int, evaluations: int, expected: float
) -> None:
    pace = timing.Pace(0.02, evaluation)
    assert pace.fitting(100.0) == (steps, evaluations)
    assert pace.expected(Training(steps=steps, evaluate_every=steps // evaluations)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("limit", "changes", "width", "told"),
    [
        (None, [], 64, ["fits"]),
        ("60s", [], 64, ["fits"]),
        ("0.4s", [], 32, ["fits", "width 64 would see the data 4.5 times within the limit"]),
        ("0.1s", [], 16, ["fits", "width 64 would see the data 1.0 times", "width 32 would see the data 2.2 times"]),
        ("0.1s", ["model.width=64"], 64, ["fits"]),
    ],
)
def test_a_model_is_smaller_where_a_limit_leaves_few_passes(
    files: Path, monkeypatch: pytest.MonkeyPatch, limit: str | None, changes: list[str], width: int, told: list[str]
) -> None:
    sizes = [Size(tokens, width, 1, 2, 32, 0.25) for tokens, width in ((1, 16), (2, 32), (1e9, 64))]
    monkeypatch.setattr(model, "SIZES", sizes)
    milliseconds = iter([20, 0, 10, 0, 5, 0])
    monkeypatch.setattr(
        timing, "seconds_per_call", lambda calls, rounds: dict.fromkeys(calls, next(milliseconds) / 1000)
    )
    made = plan(Request([str(files)], time_limit=limit, settings=changes), CPU)
    assert made.recipe.model.width == width
    reasons = [reason for label, reason in made.reasons if label == "model"]
    assert len(reasons) == len(told) and all(part in reason for part, reason in zip(told, reasons, strict=True))


@pytest.mark.parametrize(
    ("limit", "changes", "limited", "time"),
    [
        ("60s", [], "2,700 updates fit 60 s with their evaluations", "about 60 s: 2,700 updates of 20 ms"),
        ("2h", [], "324,000 updates fit 120 min with their evaluations", "about 120 min: 324,000 updates of 20 ms"),
        (
            "60s",
            ["training.steps=77", "training.seed=5"],
            "2,700 updates fit 60 s with their evaluations; but as asked, training.steps=77",
            "about 1.7 s: 77 updates of 20 ms",
        ),
        (
            "0.1s",
            [],
            "20 updates, the fewest that teach anything, need more than 0.1 s",
            "about 0.44 s: 20 updates of 20 ms",
        ),
    ],
)
@pytest.mark.usefixtures("timed")
def test_the_time_that_is_told_is_that_of_the_steps_that_will_run(
    files: Path, limit: str, changes: list[str], limited: str, time: str
) -> None:
    reasons = dict(plan(Request([str(files)], time_limit=limit, settings=changes), CPU).reasons)
    assert (reasons["limit"], reasons["time"]) == (limited, time)


def test_a_learning_rate_is_tried_in_training_not_in_measuring(files: Path) -> None:
    made = plan(Request([str(files)], settings=[*SMALL, "training.optimisation.learning_rate=1e30"]), CPU)
    assert made.recipe.training.optimisation.learning_rate == 1e30


def test_numbers_at_times_are_forecast(tmp_path: Path) -> None:
    table = tmp_path / "power.csv"
    table.write_text("date,load\n" + "".join(f"2024-01-{day:02},{day * 1.5}\n" for day in range(1, 31)))
    planned = plan(Request([str(table)], horizon=2, settings=["training.precision=fp32"]), CPU)
    assert planned.recipe.task.kind == "forecast" and planned.recipe.task.horizon == 2


def test_no_data_is_refused() -> None:
    with pytest.raises(InputError, match="no data given"):
        plan(Request(), CPU)


def test_steps_that_were_set_have_a_schedule_to_match(tmp_path: Path) -> None:
    path = tmp_path / "pairs.tsv"
    path.write_text("".join(f"{number} apples\t{number} pears\n" for number in range(60)))
    request = Request(train=(str(path),), settings=("training.steps=80", "model.width=16", "training.precision=fp32"))
    training = plan(request, CPU).recipe.training
    assert (training.steps, training.optimisation.warmup, training.evaluate_every) == (80, 20, 50)
