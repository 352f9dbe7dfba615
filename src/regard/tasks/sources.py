"""What a task reads: a field, and the embedding that goes with it."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, Protocol, runtime_checkable

import numpy as np
from pydantic import Field, model_validator

from regard.data.audio import Frames, SoundField, SpecAugment, Voices
from regard.data.fields import TextField
from regard.data.image import PictureField, PictureForm
from regard.data.learnt import LearntFile
from regard.data.rows import Row, Rows
from regard.data.tokenisers import Vocabulary
from regard.inspection.backdrop import Backdrop
from regard.layers.embeddings import FrameEmbedding, PatchEmbedding
from regard.models.model import SourceBuilder
from regard.padded import Record
from regard.settings import Settings
from regard.tasks.baselines.simple import Baseline
from regard.tasks.task import Example, Prediction, Redraw


@runtime_checkable
class SourceField(Protocol):
    """Between a row's raw source and what a model reads of it."""

    @property
    def files(self) -> Mapping[str, bytes]:
        """All it has learnt, by name."""

    @property
    def fingerprint(self) -> str:
        """What records depend on beside their row."""

    @property
    def tags(self) -> Mapping[str, int]:
        """Of which each row needs one; none: rows have no tags."""

    @property
    def vocabulary(self) -> int:
        """How many tokens there are; where sources are no tokens, the special ones alone."""

    def row(self, given: Any, roles: Sequence[str] = ("source",)) -> Row:
        """What a user gave as a row, which must have all these roles.

        Raises:
            DataError: it cannot be one.
        """

    def is_blank(self, row: Row) -> bool:
        """Whether there is nothing to read."""

    def source(self, row: Row) -> Record:
        """Raises DataError: the row has no source that can be read."""

    def steps(self, record: Record) -> list[str]:
        """What each step is called on the axis of a map."""

    def shown(self, row: Row) -> str:
        """A row's source for people to read."""


class FieldTask:
    """What tasks have in common that read each source through one field."""

    field: SourceField
    without_model: Baseline
    source_builder: SourceBuilder | None = None
    redraw: Redraw | None = None
    no_prefix: str | None = None

    @property
    def baseline_name(self) -> str:
        return self.without_model.name

    def row(self, given: Any, roles: Sequence[str] = ("source",)) -> Row:
        return self.field.row(given, roles)

    def is_blank(self, row: Row) -> bool:
        return self.field.is_blank(row)

    def source(self, row: Row) -> Record:
        return self.field.source(row)

    def baseline(self, rows: Sequence[Row]) -> list[Prediction]:
        """Answers that need no model."""
        return [Prediction(self.without_model.answer(row), 0.0) for row in rows]

    def shown(self, row: Row) -> tuple[str, str]:
        return self.field.shown(row), row["target"]


class TextSource(Settings):
    """Text in subword pieces."""

    kind: Literal["text"] = "text"

    def learn(self, train: Rows, vocabulary: Vocabulary, roles: Sequence[str]) -> TextField:
        return TextField.learn(train, vocabulary, roles)

    def restore(self, file: LearntFile) -> TextField:
        return TextField.load(file)

    def builder(self) -> SourceBuilder | None:
        """The embedding of sources that are no tokens."""
        return None

    def backdrop(self, source: Record) -> Backdrop | None:
        """What the steps of a source are places of, to be looked at."""
        return None

    def redraw(self) -> Redraw | None:
        """How training changes sources each time; None: it does not."""
        return None


class SoundSource(Settings):
    """Sound in log-mel frames, some of them hidden in training, where other ``voices`` may say the same too."""

    kind: Literal["sound"] = "sound"
    frames: Frames = Frames()
    augment: SpecAugment | None = SpecAugment()
    voices: Voices | None = None

    def learn(self, train: Rows, vocabulary: Vocabulary, roles: Sequence[str]) -> SoundField:
        return self.field()

    def restore(self, file: LearntFile) -> SoundField:
        return self.field()

    def field(self) -> SoundField:
        """Nothing of it is learnt."""
        return SoundField(self.frames)

    def builder(self) -> SourceBuilder | None:
        """The embedding of steps of frames."""
        return partial(FrameEmbedding, self.frames.mels, self.frames.stack)

    def backdrop(self, source: Record) -> Backdrop:
        return Backdrop.spectrogram(np.asarray(source).reshape(-1, self.frames.mels), len(source))

    def redraw(self) -> Redraw | None:
        return self._varied if self.augment or self.voices else None

    def _varied(self, example: Example) -> Example:
        return Example(self.field().varied(example.source, self.voices, self.augment), example.target)


class PictureSource(PictureForm):
    """Pictures in patches; ``stem`` as in `PatchEmbedding`."""

    kind: Literal["picture"] = "picture"
    stem: int = Field(default=32, ge=0, le=1024, description="channels of the first of some convolutions; 0: none")

    @model_validator(mode="after")
    def _patches_survive_the_stem(self) -> "PictureSource":
        if self.stem and (self.patch_width.bit_count() > 1 or self.high % self.patch_width):
            found = f"patches {self.high} pixels high and {self.patch_width} wide"
            raise ValueError(f"{found}: the width must be a power of two that divides the height, or set stem to 0")
        return self

    def learn(self, train: Rows, vocabulary: Vocabulary, roles: Sequence[str]) -> PictureField:
        return PictureField(self)

    def restore(self, file: LearntFile) -> PictureField:
        return PictureField(self)

    def builder(self) -> SourceBuilder:
        return partial(PatchEmbedding, (self.high, self.patch_width, self.channels), self.rows, stem=self.stem)

    def backdrop(self, source: Record) -> Backdrop:
        return Backdrop.picture(self.picture(np.asarray(source)), self.boxes(len(source)))

    def redraw(self) -> Redraw | None:
        return None


SourcePart = Annotated[TextSource | PictureSource | SoundSource, Field(discriminator="kind")]


@runtime_checkable
class ReadsSource(Protocol):
    """Settings of a task that can be told what it reads."""

    @property
    def source(self) -> TextSource | PictureSource | SoundSource: ...
