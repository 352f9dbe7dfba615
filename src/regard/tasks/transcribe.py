"""Transcribe: sound in, the words that are said in it out, by connectionist temporal classification."""

from collections.abc import Sequence
from functools import partial
from typing import ClassVar, Literal

from jaxtyping import Float
from torch import Tensor

from regard.data.learnt import LearntFile
from regard.data.rows import Row, Rows
from regard.data.tokenisers import Vocabulary
from regard.data.units import UnitName, Units
from regard.decoding.ctc import log_likelihoods, occupancy, steps_needed, transcribe
from regard.decoding.interface import Hypothesis
from regard.decoding.search import Search
from regard.errors import DataError
from regard.inspection.alignment import AttentionMaps, on_axes
from regard.layers.embeddings import TokenEmbedding
from regard.metrics.text import transcription
from regard.models.heads import Head, TokenHead
from regard.models.model import Model
from regard.models.parts import Loss, Widths
from regard.padded import Ids, Padded, Record, pad
from regard.settings import Settings
from regard.tasks.baselines.simple import MostFrequent
from regard.tasks.sources import FieldTask, SoundSource
from regard.tasks.task import Batch, Example, Prediction, Scores, Scoring, read_off, recorded

ALIGNMENT = "head/alignment"


class TranscribeSettings(Settings):
    """What Transcribe can be told. Words are for few of them, all seen in training; characters write any."""

    decoders: ClassVar[tuple[str, ...]] = ("aligned",)

    kind: Literal["transcribe"] = "transcribe"
    source: SoundSource = SoundSource()
    units: UnitName = "characters"
    metric: Literal["word_error_rate", "character_error_rate", "loss"] = "word_error_rate"

    def learn(self, train: Rows, vocabulary: Vocabulary) -> "Transcribe":
        """A task with the units, and the most frequent word, of the training rows."""
        texts = [*train.texts("target", len(train))]
        frequent = MostFrequent.learn((word for text in texts for word in text.split()), "word")
        return Transcribe(self, Units.learn(self.units, texts), frequent)

    def restore(self, file: LearntFile, vocabulary: Vocabulary) -> "Transcribe":
        """The same task from its files."""
        units = Units.load(file, self.units)
        return Transcribe(self, units, MostFrequent.load(file, "word"))


class Transcribe(FieldTask):
    """A unit or none at each step of the source; the paths that write the same are summed up.

    Connectionist temporal classification (Graves et al. 2006, ICML): steps do not depend on each other's units, so the
    decoder of its model, ``aligned``, reads them off the encoder.
    """

    blank, loss_unit = Prediction("", 0.0), "nats per unit"
    no_prefix = "a transcript says what is heard, from its beginning on"

    def __init__(self, settings: TranscribeSettings, units: Units, frequent: MostFrequent):
        self.settings, self.units, self.without_model = settings, units, frequent
        self.field = settings.source.field()
        self.source_builder = settings.source.builder()
        self.vocabulary, self.tags = self.field.vocabulary, self.field.tags
        self.files = {**units.files, **frequent.files}
        self.fingerprint = f"{self.field.fingerprint} {units.name} {units.units}"
        self.metric: str = settings.metric
        self.redraw = settings.source.redraw()

    def head(self, output: TokenEmbedding, widths: Widths) -> Head:
        """A score for each unit and for the blank."""
        return TokenHead(TokenEmbedding(1 + len(self.units), widths.output), bias=True)

    def written(self, answer: str) -> list[int]:
        return self.units.encode(answer)

    def example(self, row: Row) -> Example:
        return Example(self.source(row), self.written(row["target"]))

    def loss(self, model: Model, batch: Batch) -> Loss:
        """-log of the likelihood of the units, for each unit; rows with fewer steps than they need are left out.

        How many units those have is a part of the loss: "too_short".
        """
        source, target = batch
        total = -log_likelihoods(self._log_probs(model, source), source.lengths, target).sum()
        left_out = target.lengths[steps_needed(target) > source.lengths].sum()
        return Loss(total, int(target.lengths.sum()), {"too_short": left_out.float()})

    def _log_probs(self, model: Model, source: Padded) -> Float[Tensor, "batch time units"]:
        memory, decoded = read_off(model, source, source.lengths)
        return model.log_probs(decoded, memory).float()

    def predict(self, model: Model, source: Padded, search: Search, prefix: Padded | None = None) -> list[Prediction]:
        """The most likely words; scores are their log-probabilities."""
        log_probs = self._log_probs(model, source)
        return [self._prediction(row) for row in transcribe(log_probs, source.lengths, search.beam, search.n_best)]

    def _prediction(self, found: list[Hypothesis]) -> Prediction:
        return Prediction.best_of(
            Prediction(self.units.decode(units), score, tuple(units), tuple(self.units.pieces(units)))
            for units, score in found
        )

    def look(self, model: Model, source: Record, answer: Ids) -> AttentionMaps:
        """When each unit is written, given that the answer is right, what is looked at then, and by the encoder.

        Raises:
            DataError: the answer needs more steps than the source has.
        """
        needed = int(steps_needed(pad([answer])))
        if needed > len(source):
            found = f"'{self.units.decode(answer)}' needs {needed} steps, and the recording has {len(source)}"
            raise DataError(found, hint="give words that are said in it")
        maps, [log_probs] = recorded(model, source, partial(self._log_probs, model))
        when = occupancy(log_probs.cpu(), answer)
        of_units = {name: when @ weights if name.startswith("decoder/") else weights for name, weights in maps.items()}
        of_units |= {ALIGNMENT: when[None]} if len(answer) else {}
        steps, pieces = self.field.steps(source), self.units.pieces(answer)
        axes = on_axes(of_units, len(source), len(answer))
        return AttentionMaps.of(steps, pieces, axes, self.settings.source.backdrop(source))

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row], scoring: Scoring = Scoring()) -> Scores:
        found, wanted = [one.text for one in predictions], [" ".join(row["target"].split()) for row in rows]
        return Scores.of(transcription(found, wanted, *scoring))
