"""Spoken digits: the Free Spoken Digit Dataset (Jackson et al. 2018), read out of its archive, alone or joined."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
from jaxtyping import Float32
from numpy import ndarray
from pydantic import Field

from regard.data.corpus import Corpus
from regard.data.recordings import Recording, read_recording
from regard.data.rows import MadeRows, Row, Rows, TextRows
from regard.data.tables import read_table
from regard.errors import DataError, did_you_mean
from regard.randomness import seed_for
from regard.settings import Settings

WORDS = tuple("zero one two three four five six seven eight nine".split())
DEV_TAKES = range(5, 8)
"""Of every digit by every speaker; the official test rows are takes 0 to 4."""

FEWEST, MOST = 2, 5
"""Digits of a string."""

GAP = 0.05, 0.3
"""Seconds of silence before, between and after digits."""

NOISE = 20, 40
"""Decibels that the digits of a string are louder than the noise over all of it."""


class Take(NamedTuple):
    """One recording of one digit."""

    path: Path
    word: str
    speaker: str
    number: int
    test: bool


class SpokenDigits(Settings):
    """Digits said by six speakers, in the official split or with one speaker for testing alone.

    Strings are digits of one speaker and of one side of the split, joined with silence under noise: a function of the
    seed. ``folder`` has ``files.tsv`` (file, digit, speaker, split) and ``wav.zip``.
    """

    kind: Literal["spoken_digits"] = "spoken_digits"
    folder: str
    strings: bool = Field(default=False, description="2 to 5 digits in each row instead of one")
    unseen_speaker: str | None = Field(default=None, description="who is heard in testing alone")
    train_strings: int = Field(default=4000, ge=1, le=1_000_000)
    held_strings: int = Field(default=300, ge=1, le=100_000, description="for choosing, and as many for testing")
    seed: int = Field(default=1, ge=0)

    def load(self) -> Corpus:
        """Rows of sound and words.

        Raises:
            DataError: the folder does not hold what it should, or there is no such speaker.
        """
        takes = _takes(Path(self.folder))
        speakers = sorted({take.speaker for take in takes})
        if self.unseen_speaker and self.unseen_speaker not in speakers:
            hint = did_you_mean(self.unseen_speaker, speakers)
            raise DataError(f"no speaker '{self.unseen_speaker}'", where="data.unseen_speaker", hint=hint)
        chosen = {name: [take for take in takes if self._side(take) == name] for name in ("train", "dev", "test")}
        if not all(chosen.values()):
            raise DataError("no rows to train on, to choose by or to test on", where=self.folder, hint="is it whole?")
        train, dev, test = (self._rows(name, some) for name, some in chosen.items())
        split = f"{self.unseen_speaker} is heard in testing alone" if self.unseen_speaker else "official split"
        what = f"strings of {FEWEST} to {MOST} spoken digits" if self.strings else "spoken digits"
        counts = f"{len(train):,} to train on, {len(dev):,} to choose by, {len(test):,} to test on"
        notes = f"{what} of {len(speakers)} speakers: {split}", counts
        return Corpus(train, dev, test, notes)

    def _side(self, take: Take) -> str:
        """With an unseen speaker, the others' official test takes are for choosing."""
        if self.unseen_speaker:
            return "test" if take.speaker == self.unseen_speaker else "dev" if take.test else "train"
        return "test" if take.test else "dev" if take.number in DEV_TAKES else "train"

    def _rows(self, side: str, takes: Sequence[Take]) -> Rows:
        if not self.strings:
            return TextRows.of({"source": str(take.path), "target": take.word} for take in takes)
        number = self.train_strings if side == "train" else self.held_strings
        name = f"{side} {self.seed} {[take[1:] for take in takes]}"
        return MadeRows(number, lambda place: _string(takes, seed_for(self.seed, side, place)), name, kept=True)


def _takes(folder: Path) -> list[Take]:
    """All recordings in the order of the table."""
    table = read_table([folder / "files.tsv"])
    missing = [name for name in ("file", "digit", "speaker", "split") if name not in table.columns]
    if missing:
        hint = "it should have a row for each recording: file, digit, speaker, split"
        raise DataError(f"no column '{missing[0]}'", where=table.name, hint=hint)
    columns = [table.column(name) for name in ("file", "digit", "speaker", "split")]
    return [_take(folder, number, cells) for number, cells in enumerate(zip(*columns, strict=True), start=2)]


def _take(folder: Path, line: int, cells: Sequence[str]) -> Take:
    file, digit, speaker, split = cells
    number = file.removesuffix(".wav").rpartition("_")[2]
    if digit not in map(str, range(10)) or split not in ("train", "test") or not number.isdecimal():
        message = f"'{file}' of digit '{digit}' and split '{split}'"
        hint = "files are named DIGIT_SPEAKER_NUMBER.wav, digits are 0 to 9, splits train and test"
        raise DataError(message, where=f"{folder / 'files.tsv'}:{line}", hint=hint)
    return Take(folder / "wav.zip" / file, WORDS[int(digit)], speaker, int(number), split == "test")


def _string(takes: Sequence[Take], seed: int) -> Row:
    """Some takes of one speaker, one after the other."""
    draw = np.random.default_rng(seed)
    speaker = takes[int(draw.integers(len(takes)))].speaker
    own = [take for take in takes if take.speaker == speaker]
    chosen = [own[place] for place in draw.integers(len(own), size=draw.integers(FEWEST, MOST + 1))]
    spoken = [read_recording(take.path) for take in chosen]
    rate = spoken[0].rate
    parts = [_silence(draw, rate)]
    for one in spoken:
        parts += [one.samples, _silence(draw, rate)]
    samples = _with_noise(np.concatenate(parts), draw)
    name = " + ".join(take.path.name for take in chosen)
    return {"source": Recording(samples, rate, name), "target": " ".join(take.word for take in chosen)}


def _silence(draw: np.random.Generator, rate: int) -> Float32[ndarray, "samples"]:
    return np.zeros(int(draw.uniform(*GAP) * rate), np.float32)


def _with_noise(samples: Float32[ndarray, "samples"], draw: np.random.Generator) -> Float32[ndarray, "samples"]:
    loudness = float(np.sqrt(np.mean(samples**2))) * 10 ** (-draw.uniform(*NOISE) / 20)
    return samples + loudness * draw.standard_normal(len(samples), dtype=np.float32)
