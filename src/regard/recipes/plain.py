"""What a recipe begins as for plain files, before planning sizes it: one function a verb."""

from collections.abc import Callable, Sequence
from typing import Any

from regard.data.audio import Frames
from regard.data.pairs import Files
from regard.data.questions import Questions
from regard.data.series_files import SeriesFiles
from regard.data.tagged import Tagged
from regard.data.text import Text
from regard.data.tokenisers import Vocabulary
from regard.decoding.sampling import Sampling
from regard.decoding.search import Search
from regard.errors import InputError
from regard.models.tag_heads import ChainedTagsPart
from regard.recipe import Recipe
from regard.tasks.classify import ClassifySettings
from regard.tasks.extract import ExtractSettings
from regard.tasks.forecast import ForecastSettings
from regard.tasks.generate import GenerateSettings
from regard.tasks.language import ContinueSettings
from regard.tasks.sources import PictureSource, SoundSource, SourcePart, TextSource
from regard.tasks.tag import TagSettings
from regard.tasks.transcribe import TranscribeSettings

SOURCES: dict[str, SourcePart] = {"text": TextSource(), "picture": PictureSource(), "sound": SoundSource()}
READ_MEDIA = ("generate", "classify", "transcribe")
"""Verbs that are told which of them they read."""


def generate(medium: str = "text", **files: Any) -> Recipe:
    """A Transformer from one column to another; what is read off sound or pictures is written by character."""
    if medium == "text":
        return Recipe(data=Files(**files))
    task = GenerateSettings(source=SOURCES[medium], metric="character_error_rate")
    return Recipe(task=task, data=Files(**files), vocabulary=Vocabulary(kind="characters"))


def classify(medium: str = "text", **files: Any) -> Recipe:
    """The bidirectional LSTM with attention pooling: one layer, which small data does not teach by heart."""
    model = {"kind": "rnn", "encoder": {"cell": "lstm"}, "decoder": {"kind": "pool"}}
    task = ClassifySettings(source=SOURCES[medium], word_dropout=0.3 if medium == "text" else 0)
    data, vocabulary = Files(labels=True, **files), Vocabulary(kind="merges")
    return Recipe(task=task, data=data, vocabulary=vocabulary, model=model, search=Search())


def tag(source: str | None, target: str | None, tag: str | None, **files: Any) -> Recipe:
    """A bidirectional LSTM, whose states look at each other, and a conditional random field over the tags (Luo et al.
    2018, doi 10.1093/bioinformatics/btx761)."""
    if source or target or tag:
        hint = "leave out --source, --target and --tag"
        raise InputError("tokens come first and tags last on each line: there are no columns to name", hint=hint)
    model = {"kind": "rnn", "encoder": {"cell": "lstm"}, "decoder": {"kind": "aligned", "attention": {}}}
    task = TagSettings(head=ChainedTagsPart())
    vocabulary = Vocabulary(kind="merges")  # of single characters other kinds make two pieces, one a blank
    return Recipe(task=task, data=Tagged(**files), vocabulary=vocabulary, model=model, search=Search())


def go_on(source: str | None, target: str | None, tag: str | None, **files: Any) -> Recipe:
    """A Transformer that only writes; it looks back as far as a training window, in text of any length."""
    if source or target or tag:
        hint = "leave out --source, --target and --tag"
        raise InputError("a text that is to be continued has no columns to name", hint=hint)
    task = ContinueSettings()
    decoder = {"attention": {"where": {"kind": "window", "back": task.context - 1}}}
    model = {"kind": "decoder_only", "embedding": {"tied": "sides"}, "decoder": decoder}
    return Recipe(
        task=task,
        data=Text(**files),
        model=model,
        search=Search(max_length=500, sampling=Sampling(temperature=0.8)),
    )


def extract(tag: str | None, **files: Any) -> Recipe:
    """Question and passage read in both directions; one layer, which small data does not teach by heart."""
    if tag:
        raise InputError("questions have no tags", hint="leave --tag out")
    model = {"kind": "rnn", "decoder": {"kind": "pool"}}
    return Recipe(task=ExtractSettings(), data=Questions(**files), model=model, search=Search())


def forecast(
    source: str | None, target: str | None, tag: str | None, dev: Sequence[str], test: Sequence[str], **files: Any
) -> Recipe:
    """A linear model of each variable; ``source`` is the column with times, ``tag`` the one that tells series apart."""
    if dev or test:
        hint = "leave out --dev and --test: the last 30 % of the steps are held out"
        raise InputError("a series is cut in the order of time, and other files are no part of it", hint=hint)
    data = SeriesFiles(time=source, target=target, key=tag, **files)
    return Recipe(task=ForecastSettings(), data=data, model={"kind": "linear"}, search=Search())


def transcribe(medium: str, tag: str | None, **files: Any) -> Recipe:
    """Characters read off a bidirectional LSTM, one for each 20 ms at most."""
    if medium != "sound" or tag:
        hint = "give a column of paths to .wav, .flac, .ogg or .mp3 files, and leave --tag out"
        raise InputError("a transcript is of sound, and has no tags", hint=hint)
    task = TranscribeSettings(source=SoundSource(frames=Frames(stack=2)))
    model = {"kind": "rnn", "encoder": {"cell": "lstm", "layers": 2}, "decoder": {"kind": "aligned"}}
    return Recipe(task=task, data=Files(**files), model=model, search=Search())


VERBS: dict[str, Callable[..., Recipe]] = {
    "generate": generate,
    "classify": classify,
    "transcribe": transcribe,
    "extract": extract,
    "continue": go_on,
    "tag": tag,
    "forecast": forecast,
}
"""Called with the files and columns that were given, as `Files` takes them."""
