"""Generate: a source in, a text out. Translation, transliteration, captions: data, not code."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Annotated, Literal, cast

import torch
from pydantic import Field, model_validator

from regard.data.fields import MOST_LEARNT, TextField
from regard.data.learnt import LearntFile
from regard.data.rows import Row, Rows
from regard.data.tokenisers import END, START, Vocabulary
from regard.decoding.search import Search
from regard.inspection.alignment import AttentionMaps, on_axes
from regard.layers.embeddings import TokenEmbedding
from regard.metrics import text as metrics
from regard.models.copy_head import CopyHeadPart
from regard.models.heads import Head, TextHead, TokenHeadPart
from regard.models.model import Model
from regard.models.parts import Decoded, Loss, Memory, Widths
from regard.padded import Ids, Padded, Record, pad
from regard.settings import Settings
from regard.tasks.baselines.simple import COPY_SOURCE, Baseline, MostFrequent
from regard.tasks.sources import FieldTask, SourceField, SourcePart, TextSource
from regard.tasks.task import Batch, Example, Prediction, Scores, Scoring, recorded
from regard.tasks.writing import write

SCORED_AS: dict[str, Callable[..., dict[str, metrics.Scored]]] = {
    "character_error_rate": metrics.transcription,
    "word_error_rate": metrics.pronunciation,
    "phone_error_rate": metrics.pronunciation,
}
"""What is scored beside a metric, where it is no translation."""

TextHeadPart = Annotated[TokenHeadPart | CopyHeadPart, Field(discriminator="kind")]
"""Heads that write tokens."""


class GenerateSettings(Settings):
    """What Generate can be told."""

    kind: Literal["generate"] = "generate"
    source: SourcePart = TextSource()
    head: TextHeadPart = TokenHeadPart()
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    consistency: float = Field(default=0, ge=0, description="R-Drop's alpha; 0: off")
    metric: Literal[
        "bleu", "chrf", "exact_match", "character_error_rate", "word_error_rate", "phone_error_rate", "loss"
    ] = "bleu"

    @model_validator(mode="after")
    def _only_text_is_copied(self) -> "GenerateSettings":
        if self.head.kind == "copy" and self.source.kind != "text":
            raise ValueError(f"a {self.source.kind} has no tokens to copy: set head.kind to tokens")
        return self

    def learn(self, train: Rows, vocabulary: Vocabulary) -> "Generate":
        """A task with one vocabulary for both sides and all tags, or for the targets where sources are no text."""
        source = self.source.learn(train, vocabulary, ["source", "target"])
        if isinstance(source, TextField):
            return Generate(self, source, vocabulary.sampling)
        target = TextField.learn(train, vocabulary, ["target"])
        baseline = MostFrequent.learn(train.texts("target", MOST_LEARNT))
        return Generate(self, target, vocabulary.sampling, source, baseline)

    def restore(self, file: LearntFile, vocabulary: Vocabulary) -> "Generate":
        """The same task from its files."""
        source = self.source.restore(file)
        if isinstance(source, TextField):
            return Generate(self, source, vocabulary.sampling)
        target = TextField.load(file)
        baseline = MostFrequent.load(file)
        return Generate(self, target, vocabulary.sampling, source, baseline)


class Generate(FieldTask):
    """The answer is searched for token by token; a source that is text shares the vocabulary of the targets."""

    blank, loss_unit = Prediction("", 0.0), "nats per token"

    def __init__(
        self,
        settings: GenerateSettings,
        target: TextField,
        sampling: float | None = None,
        source: SourceField | None = None,
        baseline: Baseline = COPY_SOURCE,
    ):
        self.settings, self.target_field, self.without_model = settings, target, baseline
        self.field: SourceField = source or target
        self.source_builder = settings.source.builder()
        self.redraw = partial(self._redrawn, smoothing=sampling) if sampling else settings.source.redraw()
        self.vocabulary, self.tags = target.vocabulary, self.field.tags
        self.files = {**self.field.files, **target.files, **baseline.files}
        self.metric: str = settings.metric
        self.fingerprint = " ".join(dict.fromkeys([self.field.fingerprint, target.fingerprint]))

    def head(self, output: TokenEmbedding, widths: Widths) -> Head:
        return self.settings.head.build(output, widths, self.settings.label_smoothing)

    def written(self, answer: str) -> list[int]:
        return self.target_field.encode(answer)

    def example(self, row: Row) -> Example:
        return Example(self.source(row), self.target_field.target(row))

    def _redrawn(self, example: Example, smoothing: float) -> Example:
        if self.field is self.target_field:
            return Example(*(self.target_field.resample(side, smoothing) for side in example))
        of_source = self.settings.source.redraw()
        source = (of_source(example) if of_source else example).source
        return Example(source, self.target_field.resample(example.target, smoothing))

    def loss(self, model: Model, batch: Batch) -> Loss:
        """Each token given the source and all tokens before it (teacher forcing)."""
        if not (self.settings.consistency and model.training):
            memory, decoded = self._teacher_forced(model, batch)
            return model.head.loss(decoded, batch.target, memory.head)
        return self._consistent_loss(model, batch)

    def _teacher_forced(self, model: Model, batch: Batch) -> tuple[Memory, Decoded]:
        memory = model.encode(batch.source)
        state = model.start(memory, len(batch.target.lengths))
        return memory, model.advance(shift_right(batch.target), memory, state)[0]

    def _consistent_loss(self, model: Model, batch: Batch) -> Loss:
        """The mean loss of two passes with dropout of their own, and how far their predictions lie apart.

        R-Drop (Liang et al. 2021, arXiv 2106.14448), equation 4, divided by two so that it stays a loss per token.
        """
        (memory, first), (other_memory, second) = self._teacher_forced(model, batch), self._teacher_forced(model, batch)
        memories = memory.head, other_memory.head
        one, other = (
            model.head.loss(decoded, batch.target, kept)
            for decoded, kept in zip((first, second), memories, strict=True)
        )
        apart = cast(TextHead, model.head).divergence(first, second, batch.target, memories)
        total = (one.total + other.total + self.settings.consistency * apart / 2) / 2
        means = {name: (part + other.parts[name]) / 2 for name, part in one.parts.items()}
        return Loss(total, one.count, means | {"divergence": apart.detach()})

    def predict(self, model: Model, source: Padded, search: Search, prefix: Padded | None = None) -> list[Prediction]:
        return write(self.target_field, model, model.encode(source), source, search, prefix)

    def look(self, model: Model, source: Record, answer: Ids) -> AttentionMaps:
        """One pass over source and answer."""
        whole = [*answer, END]

        def write(read: Padded) -> None:
            memory, decoded = self._teacher_forced(model, Batch(read, pad([whole]).to(model.device)))
            model.log_probs(decoded, memory)  # a head that copies looks too

        maps, _ = recorded(model, source, write)
        steps, pieces = self.field.steps(source), self.target_field.steps(whole)
        backdrop = self.settings.source.backdrop(source)
        return AttentionMaps.of(steps, pieces, on_axes(maps, len(steps), len(pieces)), backdrop)

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row], scoring: Scoring = Scoring()) -> Scores:
        texts, references = [one.text for one in predictions], [row["target"] for row in rows]
        return Scores.of(SCORED_AS.get(self.metric, metrics.translation)(texts, references, *scoring))


def shift_right(target: Padded) -> Padded:
    """The target one step late, beginning with the start token: what the decoder has read when it writes each token."""
    starts = torch.full_like(target.values[:, :1], START)
    return Padded(torch.cat([starts, target.values[:, :-1]], dim=1), target.lengths)
