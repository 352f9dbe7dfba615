"""Classify: a source in, one of few labels out. Sentiment, topics, spoken words, digits: data, not code."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field

from regard.attention import record
from regard.data.labels import LABELS_FILE, Labels
from regard.data.labels import MOST_BYTES as MOST_LABEL_BYTES
from regard.data.rows import Row, Rows
from regard.data.tokenisers import START, Vocabulary
from regard.decoding.search import Search
from regard.errors import DataError
from regard.inspection.alignment import AttentionMaps, on_axes
from regard.layers.embeddings import TokenEmbedding
from regard.metrics import labels as metrics
from regard.models.heads import Head, TokenHead
from regard.models.model import Model
from regard.models.parts import Decoded, Loss, Memory, Widths
from regard.padded import Ids, Padded, Record, pad
from regard.settings import Settings
from regard.tasks.naive_bayes import BASELINE_FILE, NaiveBayes
from regard.tasks.naive_bayes import MOST_BYTES as MOST_BASELINE_BYTES
from regard.tasks.sources import SourceField, SourcePart, TextSource
from regard.tasks.task import Batch, Example, LearntFile, Prediction, Scores, Scoring

MOST_ALTERNATIVES = 9

SIGNATURES = {
    "accuracy": "accuracy|case:mixed",
    "macro_f1": "f1|average:macro|labels:seen or predicted",
    "calibration_error": "ece|bins:15|width:equal",
}


class ClassifySettings(Settings):
    """What Classify can be told."""

    kind: Literal["classify"] = "classify"
    source: SourcePart = TextSource()
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    metric: Literal["accuracy", "macro_f1", "loss"] = "accuracy"

    def learn(self, train: Rows, vocabulary: Vocabulary) -> "Classify":
        """A task with the labels, and what is learnt of the sources, of the training rows."""
        sources, targets = (train.texts(role, len(train)) for role in ("source", "target"))
        labels = Labels.learn(train.texts("target", len(train)))
        baseline = NaiveBayes.learn(labels, zip(sources, targets, strict=True))
        return Classify(self, self.source.learn(train, vocabulary, ["source"]), labels, baseline)

    def restore(self, file: LearntFile, vocabulary: Vocabulary) -> "Classify":
        """The same task from its files."""
        labels = Labels.load(file(LABELS_FILE, MOST_LABEL_BYTES))
        baseline = NaiveBayes.load(file(BASELINE_FILE, MOST_BASELINE_BYTES), labels)
        return Classify(self, self.source.restore(file), labels, baseline)


class Labelled(Prediction):
    """A label with its log-probability."""

    @property
    def label(self) -> str:
        return self.text

    def to_json(self) -> dict[str, Any]:
        others = [{"label": one.text, "score": one.score} for one in self.alternatives]
        return {"label": self.text, "score": self.score, "alternatives": others}


class Classify:
    """An answer of one step; the decoder may read it off the encoder (``pool``) or look for it with its attention."""

    baseline_name, blank = "naive Bayes", Labelled("", 0.0)

    def __init__(self, settings: ClassifySettings, field: SourceField, labels: Labels, baseline: NaiveBayes):
        self.settings, self.field, self.labels, self.bayes = settings, field, labels, baseline
        self.source_builder = settings.source.builder(field)
        self.vocabulary, self.tags = field.vocabulary, field.tags
        self.files = {**field.files, **labels.files, **baseline.files}
        self.fingerprint = f"{field.fingerprint} {labels.names}"
        self.metric: str = settings.metric
        self.redraw = None

    def head(self, output: TokenEmbedding, widths: Widths) -> Head:
        """A score for each label."""
        return TokenHead(TokenEmbedding(len(self.labels), widths.output), self.settings.label_smoothing, bias=True)

    def row(self, given: Any, roles: Sequence[str] = ("source",)) -> Row:
        return self.field.row(given, roles)

    def is_blank(self, row: Row) -> bool:
        return self.field.is_blank(row)

    def source(self, row: Row) -> Record:
        return self.field.source(row)

    def written(self, answer: str) -> list[int]:
        return [self.labels.number(answer)]

    def example(self, row: Row) -> Example:
        return Example(self.source(row), self.written(row["target"]))

    def loss(self, model: Model, batch: Batch) -> Loss:
        memory, decoded = self._decided(model, batch.source)
        return model.head.loss(decoded, batch.target, memory.head)

    def _decided(self, model: Model, source: Padded) -> tuple[Memory, Decoded]:
        """What the decoder makes of the source in the one step after the start token."""
        memory, rows = model.encode(source), len(source.lengths)
        ones = torch.ones_like(source.lengths)
        starts = Padded(torch.full_like(ones, START)[:, None], ones)
        return memory, model.advance(starts, memory, model.start(memory, rows))[0]

    def predict(self, model: Model, source: Padded, search: Search, prefix: Padded | None = None) -> list[Prediction]:
        """The most likely label, and the next ones.

        Raises:
            DataError: a prefix was given.
        """
        if prefix is not None:
            raise DataError("a label has no beginning to go on from", hint="leave the prefix out")
        memory, decoded = self._decided(model, source)
        scores = model.log_probs(decoded, memory)[:, 0].float().sort(descending=True)
        return [self._prediction(*one) for one in zip(scores.values.tolist(), scores.indices.tolist(), strict=True)]

    def _prediction(self, scores: list[float], numbers: list[int]) -> Prediction:
        best, *others = (
            Labelled(self.labels.names[number], score, (number,), (self.labels.names[number],))
            for number, score in zip(numbers[: 1 + MOST_ALTERNATIVES], scores, strict=False)
        )
        return replace(best, alternatives=tuple(others))

    @torch.inference_mode()
    def look(self, model: Model, source: Record, answer: Ids) -> AttentionMaps:
        with record(model) as maps:
            self._decided(model, pad([source]).to(next(model.parameters()).device))
        seen = on_axes({name: weights[0].cpu() for name, weights in maps.items()}, len(source), len(answer))
        return AttentionMaps.of(self.field.steps(source), [self.labels.names[number] for number in answer], seen)

    def baseline(self, rows: Sequence[Row]) -> list[Prediction]:
        return [Prediction(self.bayes.label(row["source"]), 0.0) for row in rows]

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row], scoring: Scoring = Scoring()) -> Scores:
        found, wanted = [one.text for one in predictions], [row["target"] for row in rows]
        confidences = np.exp([one.score for one in predictions])
        right = np.array([one == other for one, other in zip(found, wanted, strict=True)])
        values = {
            "accuracy": metrics.accuracy(found, wanted),
            "macro_f1": metrics.macro_f1(found, wanted),
            "calibration_error": metrics.calibration_error(confidences, right),
        }
        return Scores(values, SIGNATURES, 0)

    def shown(self, row: Row) -> tuple[str, str]:
        return self.field.shown(row), row["target"]
