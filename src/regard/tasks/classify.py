"""Classify: a source in, one of few labels out. Sentiment, topics, spoken words, digits: data, not code."""

import math
from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field, model_validator

from regard.data.fields import TextField
from regard.data.labels import Labels
from regard.data.learnt import LearntFile
from regard.data.rows import Row, Rows
from regard.data.tokenisers import END, Vocabulary
from regard.decoding.search import Search
from regard.inspection.alignment import AttentionMaps, on_axes
from regard.layers.embeddings import TokenEmbedding
from regard.layers.segments import sentences_of
from regard.metrics import labels as metrics
from regard.models.heads import Head, TokenHead
from regard.models.hierarchical import over_words
from regard.models.model import Model
from regard.models.parts import Decoded, Loss, Memory, Widths
from regard.padded import Ids, Padded, Record, pad
from regard.pieces import BLANK, is_special, merge_words
from regard.settings import Settings
from regard.tasks.baselines.naive_bayes import NaiveBayes
from regard.tasks.baselines.simple import Baseline, MostFrequent
from regard.tasks.sources import FieldTask, SourceField, SourcePart, TextSource
from regard.tasks.task import Batch, Example, Prediction, Scores, Scoring, read_off, recorded

MOST_ALTERNATIVES = 9

CLOSING = ".!?…。！？"
"""What the pieces end in that end a sentence, for encoders that read one after the other."""

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
    word_dropout: float = Field(default=0.0, ge=0, lt=1, description="the share of words that training leaves out")
    metric: Literal["accuracy", "macro_f1", "loss"] = "accuracy"

    @model_validator(mode="after")
    def _only_text_has_words(self) -> "ClassifySettings":
        if self.word_dropout and self.source.kind != "text":
            raise ValueError(f"a {self.source.kind} has no words to leave out: set word_dropout to 0")
        return self

    def learn(self, train: Rows, vocabulary: Vocabulary) -> "Classify":
        """A task with the labels, and what is learnt of the sources, of the training rows."""
        source = self.source.learn(train, vocabulary, ["source"])
        labels = Labels.learn(train.texts("target", len(train)))
        if not isinstance(source, TextField):
            return Classify(self, source, labels, MostFrequent(labels.most_frequent))
        pairs = zip(train.texts("source", len(train)), train.texts("target", len(train)), strict=True)
        return Classify(self, source, labels, NaiveBayes.learn(labels, pairs))

    def restore(self, file: LearntFile, vocabulary: Vocabulary) -> "Classify":
        """The same task from its files."""
        source = self.source.restore(file)
        labels = Labels.load(file)
        if not isinstance(source, TextField):
            return Classify(self, source, labels, MostFrequent.load(file))
        return Classify(self, source, labels, NaiveBayes.load(file, labels))


class Labelled(Prediction):
    """A label with its log-probability."""

    @property
    def label(self) -> str:
        return self.text

    def to_json(self) -> dict[str, Any]:
        others = [{"label": one.text, "score": one.score} for one in self.alternatives]
        return {"label": self.text, "score": self.score, "alternatives": others}


class Classify(FieldTask):
    """An answer of one step; the decoder may read it off the encoder (``pool``) or look for it with its attention."""

    blank, loss_unit = Labelled("", 0.0), "nats per label"
    no_prefix = "a label has no beginning to go on from"

    def __init__(self, settings: ClassifySettings, field: SourceField, labels: Labels, baseline: Baseline):
        self.settings, self.field, self.labels, self.without_model = settings, field, labels, baseline
        self.source_builder = settings.source.builder()
        self.vocabulary, self.tags = field.vocabulary, field.tags
        self.files = {**field.files, **labels.files, **baseline.files}
        self.fingerprint = f"{field.fingerprint} {labels.names}"
        self.metric: str = settings.metric
        self.redraw = self._with_fewer_words if settings.word_dropout else settings.source.redraw()
        pieces = field.steps(range(field.vocabulary)) if isinstance(field, TextField) else []
        self.closing = torch.tensor([piece[-1] in CLOSING for piece in pieces]) if pieces else None

    def head(self, output: TokenEmbedding, widths: Widths) -> Head:
        """A score for each label."""
        return TokenHead(TokenEmbedding(len(self.labels), widths.output), self.settings.label_smoothing, bias=True)

    @torch.no_grad()
    def inform(self, model: Model) -> None:
        """Vectors of words begin with what naive Bayes makes of them (Li et al. 2016, C16-1150).

        In features of their own, of the deviation that fresh weights have; a word seen once teaches little else.
        """
        bayes, embedding = self.without_model, model.source_embedding
        if not (isinstance(bayes, NaiveBayes) and isinstance(embedding, TokenEmbedding)):
            return
        pieces, width = self.field.steps(range(self.vocabulary)), embedding.weight.shape[1]
        words = (piece.removeprefix(BLANK) if piece[0] == BLANK or len(piece) == 1 else "" for piece in pieces)
        evidence = torch.tensor([bayes.evidence(word)[:width] for word in words]) / width**0.5
        embedding.weight[:, : evidence.shape[1]] = evidence

    def written(self, answer: str) -> list[int]:
        return [self.labels.number(answer)]

    def example(self, row: Row) -> Example:
        return Example(self.source(row), self.written(row["target"]))

    def _with_fewer_words(self, example: Example) -> Example:
        """Word dropout (Iyyer et al. 2015, P15-1162), which draws a classifier nearer to naive Bayes the more it leaves
        out (Wager et al. 2014, arXiv 1407.3289): the better of the two on few rows."""
        pieces = self.field.steps(example.source)
        words = merge_words(pieces)
        kept = (torch.rand(len(words)) >= self.settings.word_dropout).tolist()
        left = [word for word, keep in zip(words, kept, strict=True) if keep or is_special(word, pieces)]
        return Example(np.asarray(example.source)[[place for word in left for place in word.pieces]], example.target)

    def loss(self, model: Model, batch: Batch) -> Loss:
        memory, decoded = self._decided(model, batch.source)
        return model.head.loss(decoded, batch.target, memory.head)

    def _decided(self, model: Model, source: Padded) -> tuple[Memory, Decoded]:
        if self.closing is not None:
            sentences = sentences_of(source.values, self.closing.to(source.values.device), END)
            source = source._replace(segments=sentences)
        return read_off(model, source, torch.ones_like(source.lengths))

    def predict(self, model: Model, source: Padded, search: Search, prefix: Padded | None = None) -> list[Prediction]:
        """The most likely label, and the next ones."""
        memory, decoded = self._decided(model, source)
        scores = model.log_probs(decoded, memory)[:, 0].float().sort(descending=True)
        return [self._prediction(*one) for one in zip(scores.values.tolist(), scores.indices.tolist(), strict=True)]

    def _prediction(self, scores: list[float], numbers: list[int]) -> Prediction:
        return Prediction.best_of(
            Labelled(self.labels.names[number], score, (number,), (self.labels.names[number],))
            for number, score in zip(numbers[: 1 + MOST_ALTERNATIVES], scores, strict=False)
        )

    def look(self, model: Model, source: Record, answer: Ids) -> AttentionMaps:
        maps, _ = recorded(model, source, partial(self._decided, model))
        steps, names = self.field.steps(source), [self.labels.names[number] for number in answer]
        if self.closing is not None:
            [numbers] = sentences_of(pad([source]).values, self.closing, END)
            maps |= over_words(maps, numbers)
        seen = on_axes(maps, len(steps), len(names))
        return AttentionMaps.of(steps, names, seen, self.settings.source.backdrop(source))

    def baseline(self, rows: Sequence[Row]) -> list[Prediction]:
        return [Prediction(self.without_model.answer(row), self._log_prob(row)) for row in rows]

    def _log_prob(self, row: Row) -> float:
        """Of the baseline's answer: what naive Bayes thinks, or how often training has it."""
        if isinstance(self.without_model, NaiveBayes):
            return self.without_model.log_prob(row)
        counts = self.labels.counts
        return math.log(counts[self.without_model.answer(row)] / sum(counts.values()))

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
