"""Forecast: the last steps of a series in, the next ones out, in the units they came in."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Float64
from numpy import ndarray
from pydantic import Field, field_validator
from torch import nn

from regard.data.learnt import LearntFile
from regard.data.rows import Row, Rows
from regard.data.scaling import Scale
from regard.data.series import Series, Windows
from regard.data.times import read_times
from regard.data.tokenisers import SPECIAL_TOKENS, Vocabulary
from regard.decoding.search import Search
from regard.errors import DataError
from regard.inspection.alignment import AttentionMaps, on_axes
from regard.inspection.backdrop import Backdrop
from regard.inspection.curves import sketch
from regard.layers.embeddings import TokenEmbedding
from regard.layers.series import SeriesEmbedding, Window
from regard.metrics import series as metrics
from regard.models.heads import Head
from regard.models.horizon_head import HorizonHead
from regard.models.model import Model
from regard.models.parts import Decoded, Loss, Memory, Widths
from regard.models.series import Regrouping
from regard.padded import Ids, Padded, Record
from regard.pieces import BLANK
from regard.settings import Settings
from regard.tasks.baselines.ridge import Ridge
from regard.tasks.forecasted import AGO, Forecasted
from regard.tasks.task import Batch, Example, Prediction, Scores, Scoring, read_off, recorded


class ForecastSettings(Settings):
    """What Forecast can be told."""

    kind: Literal["forecast"] = "forecast"
    input: int = Field(default=96, ge=1, description="steps that are looked back")
    horizon: int = Field(default=24, ge=1, description="steps that are looked ahead")
    quantiles: tuple[float, ...] = Field(default=(), description="learnt instead of the mean, such as [0.1, 0.5, 0.9]")
    metric: Literal["mse", "mae", "smape", "mase", "loss"] = "mse"
    baseline: Literal["seasonal_naive", "ridge"] = Field(
        default="seasonal_naive", description="what the model is shown beside; ridge is closer to it"
    )

    @field_validator("quantiles")
    @classmethod
    def _in_order_around_the_median(cls, quantiles: tuple[float, ...]) -> tuple[float, ...]:
        inside = all(0 < one < 1 for one in quantiles)
        if quantiles and not (inside and list(quantiles) == sorted(set(quantiles)) and 0.5 in quantiles):
            raise ValueError("quantiles rise from above 0 to below 1, with 0.5 among them: [0.1, 0.5, 0.9]")
        return quantiles

    def learn(self, train: Rows, vocabulary: Vocabulary) -> "Forecast":
        """A task with the scale and the season of the training part.

        Raises:
            DataError: rows are no windows of series.
        """
        if not isinstance(train, Windows):
            hint = "set data.kind=series, or train on a table with a time column"
            raise DataError("a forecast is learnt from windows of series, and these rows are none", hint=hint)
        scale = Scale.learn(train)
        scaled = [scale.apply(part.values) for part in train.parts]
        ridge = Ridge.learn(scaled, scale.reach, scale.horizon) if self.baseline == "ridge" else None
        return Forecast(self, scale, ridge)

    def restore(self, file: LearntFile, vocabulary: Vocabulary) -> "Forecast":
        """The same task from its files."""
        scale = Scale.load(file)
        if self.baseline != "ridge":
            return Forecast(self, scale)
        return Forecast(self, scale, Ridge.load(file, scale.reach, scale.horizon))


class Forecast:
    """The model reads a window that was scaled by the training part; decoders are advanced over the whole horizon.

    Tokens have no meaning here: each step ahead is a start token, and what tells steps apart is the decoder's own.
    """

    blank, loss_unit = Forecasted("", 0.0), "of scaled values"
    no_prefix = "a forecast has no beginning to go on from"
    redraw, vocabulary = None, SPECIAL_TOKENS
    tags: tuple[str, ...] = ()

    def __init__(self, settings: ForecastSettings, scale: Scale, ridge: Ridge | None = None):
        self.settings, self.scale, self.ridge = settings, scale, ridge
        self.files = {**scale.files, **(ridge.files if ridge else {})}
        self.baseline_name = "ridge regression" if ridge else "seasonal naive"
        self.fingerprint = f"{settings.input} {settings.horizon} {scale.model_dump_json()}"
        self.metric: str = settings.metric
        outputs = max(len(settings.quantiles), 1)
        self.window = Window(scale.reach, len(scale.variables), scale.horizon, outputs)

    def source_builder(self, width: int) -> nn.Module:
        """Steps have as many features as there are variables, whatever the width."""
        return SeriesEmbedding(self.window)

    def head(self, output: TokenEmbedding, widths: Widths) -> Head:
        return HorizonHead(widths, self.window, self.settings.quantiles)

    def row(self, given: Any, roles: Sequence[str] = ("source",)) -> Row:
        """A mapping to `Series`, or {"source": numbers, "start": the time of the first}."""
        row = given
        if isinstance(row, Mapping) and "start" in row:
            row = {"source": self._series(row.get("source"), str(row["start"]))}
        if isinstance(row, Mapping) and all(isinstance(row.get(role), Series) for role in roles):
            return {role: self.scale.read(row[role]) if role in roles else row[role] for role in row}
        wanted = '{"source": [[number for each variable] for each step], "start": "2024-01-31 00:00"}'
        raise DataError(f"a row is a series or {wanted}, not {str(given)[:80]!r}")

    def _series(self, numbers: Any, start: str) -> Series:
        """Raises DataError: these are no finite numbers, not as many as there are variables, or start is no time."""
        try:
            values = np.asarray(numbers, np.float64)
        except (TypeError, ValueError):
            values = np.full((1, 1), np.nan)
        if values.ndim != 2 or values.shape[1] != len(self.scale.variables) or not np.isfinite(values).all():
            wanted = f"finite numbers for {', '.join(self.scale.variables)}"
            raise DataError(f"a source is a list of steps, each a list of {len(self.scale.variables)}: {wanted}")
        clock, stamps = self.scale.clock, read_times([start], "start", [1])
        [place], [beside] = clock.places(stamps.seconds)
        if beside or stamps.zoned != clock.zoned:
            [first] = clock.names(np.array([place]))
            found = f"start '{start}' is no time of the model, which has a step every {clock.describe()}"
            raise DataError(found, hint=f"write it as in training, such as '{first}'")
        return Series("series", self.scale.variables, clock, int(place), values)

    def cut(self, rows: Sequence[Row]) -> Sequence[Row]:
        """Every window of rows that are whole series; rows that have their target already are as they were.

        Raises:
            DataError: no series is long enough for one.
        """
        if all("target" in row for row in rows):
            return rows
        series = [self.row(row)["source"] for row in rows]
        windows = Windows(series, self.scale.reach, self.scale.horizon)
        if not len(windows):
            needed = self.scale.reach + self.scale.horizon
            raise DataError(f"no series has the {needed} steps of a window", hint="give a longer table")
        return windows

    def is_blank(self, row: Row) -> bool:
        return not len(row["source"])

    def source(self, row: Row) -> Record:
        return self.scale.last(row["source"])

    def written(self, answer: str) -> Ids:
        """Raises DataError: an answer that is not the model's own would change nothing it looks at."""
        raise DataError("a forecast is looked at as it is", hint="leave the target out")

    def example(self, row: Row) -> Example:
        return Example(self.source(row), self.scale.apply(row["target"].values).astype(np.float32))

    def loss(self, model: Model, batch: Batch) -> Loss:
        memory, decoded = self._ahead(model, batch.source)
        return model.head.loss(decoded, batch.target, memory.head)

    def _ahead(self, model: Model, source: Padded) -> tuple[Memory, Decoded]:
        return read_off(model, source, torch.full_like(source.lengths, self.window.horizon))

    def predict(self, model: Model, source: Padded, search: Search, prefix: Padded | None = None) -> list[Prediction]:
        """What is expected of each step, or its median; quantiles never cross, for they are put in order."""
        memory, decoded = self._ahead(model, source)
        scaled = cast(HorizonHead, model.head).values(decoded, memory.head).double().cpu().sort(dim=-1).values
        return [self._answer(one) for one in self.scale.undo(scaled.movedim(-1, 1).numpy())]

    def _answer(self, values: Float64[ndarray, "outputs steps variables"]) -> Forecasted:
        names = [f"{one:g}" for one in self.settings.quantiles]
        best = values[names.index("0.5") if names else 0]
        return Forecasted(sketch(best[:, 0]), 0.0, values=best, quantiles=dict(zip(names, values, strict=False)))

    def look(self, model: Model, source: Record, answer: Ids) -> AttentionMaps:
        """Steps, and patches by their first one, are called by how many they are before or after the end of the source,
        over its curves; heads of all variables stand side by side where each is read by itself."""
        maps, _ = recorded(model, source, partial(self._ahead, model))
        ahead = [f"{BLANK}+{step}" for step in range(1, self.window.horizon + 1)]
        begins = model.encoder.begins if isinstance(model.encoder, Regrouping) else [*range(self.window.steps)]
        if begins is None:
            names, backdrop = [BLANK + name for name in self.scale.variables], None
        else:
            names = [f"{AGO}{self.window.steps - step}" for step in begins]
            backdrop = Backdrop.curves(np.asarray(source), begins)
        return AttentionMaps.of(names, ahead, on_axes(maps, len(names), len(ahead)), backdrop)

    def baseline(self, rows: Sequence[Row]) -> list[Prediction]:
        """The last season again and again, or ridge regression; every quantile is the same."""
        answers = (np.stack([self._without_model(row["source"])] * self.window.outputs) for row in rows)
        return [self._answer(one) for one in answers]

    def _without_model(self, past: Series) -> Float64[ndarray, "steps variables"]:
        if self.ridge:
            return self.scale.undo(self.ridge.answer(self.scale.apply(past.values[-self.scale.reach :])))
        season = self.scale.season
        return past.values[np.arange(self.scale.horizon) % season - season]

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row], scoring: Scoring = Scoring()) -> Scores:
        """Squared and absolute errors of scaled values, as the field reports them; shares and MASE of given ones."""
        answers = [cast(Forecasted, one) for one in predictions]
        found, wanted = np.stack([one.values for one in answers]), np.stack([row["target"].values for row in rows])
        scaled, true = self.scale.apply(found), self.scale.apply(wanted)
        values = {
            "mse": metrics.mse(scaled, true),
            "mae": metrics.mae(scaled, true),
            "smape": metrics.smape(found, wanted),
            "mase": metrics.mase(found, wanted, np.array(self.scale.naive)),
        }
        if quantiles := self.settings.quantiles:
            each = [self.scale.apply(np.stack([*one.quantiles.values()])) for one in answers]
            values["quantile_loss"] = metrics.quantile_loss(np.moveaxis(np.stack(each), 1, -1), true, quantiles)
        return Scores(values, {name: self._signature(name) for name in values}, 0)

    def _signature(self, name: str) -> str:
        values = "as given" if name in ("smape", "mase") else "scaled by training"
        season = f"|season:{self.scale.season}" if name == "mase" else ""
        return f"{name}|values:{values}|input:{self.scale.reach}|horizon:{self.scale.horizon}{season}"

    def shown(self, row: Row) -> tuple[str, str]:
        """The first variable as curves."""
        source = sketch(row["source"].values[-self.scale.reach :, 0])
        return source, sketch(row["target"].values[:, 0]) if "target" in row else ""
