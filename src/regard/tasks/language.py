"""Continue: text that goes on from what was given. Language models of characters or of subwords: data, not code."""

import math
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.functional import pad as widen

from regard import trees
from regard.data.fields import MOST_LEARNT, TextField
from regard.data.learnt import LearntFile
from regard.data.rows import Row, Rows
from regard.data.tokenisers import END, START, Vocabulary, cut
from regard.decoding.search import Search
from regard.inspection.alignment import AttentionMaps, on_axes
from regard.layers.embeddings import TokenEmbedding
from regard.models.heads import Head, TokenHead
from regard.models.model import Model
from regard.models.parts import Decoded, Loss, State, Widths
from regard.padded import Ids, Padded
from regard.settings import Settings
from regard.tasks.baselines.ngrams import NGrams
from regard.tasks.encoded import Encoded
from regard.tasks.packing import PackedWindows
from regard.tasks.task import Batch, Example, Prediction, Scores, Scoring, recorded
from regard.tasks.writing import write

LOOKED_AT = 64
"""Tokens of what was given, and of what was written, whose attention is shown."""

SIGNATURES = {
    "loss_per_character": "loss|unit:nats|per:character|text:NFC",
    "bits_per_character": "loss|unit:bits|per:character|text:NFC",
    "loss": "loss|unit:nats|per:token",
    "perplexity": "perplexity|per:token",
}


class ContinueSettings(Settings):
    """What Continue can be told."""

    kind: Literal["continue"] = "continue"
    context: int = Field(default=256, ge=1, description="tokens of a training window")
    metric: Literal["loss_per_character", "loss"] = "loss_per_character"

    def learn(self, train: Rows, vocabulary: Vocabulary) -> "Continue":
        """A task with a verbatim vocabulary of the training text, and its n-grams."""
        field = TextField.learn(train, vocabulary.model_copy(update={"verbatim": True}), ["target"])
        tokens = (one for text in train.texts("target", MOST_LEARNT) for one in _ids(field, text))
        ngrams = NGrams.learn(field.vocabulary, tokens)
        return Continue(self, field, ngrams)

    def restore(self, file: LearntFile, vocabulary: Vocabulary) -> "Continue":
        """The same task from its files."""
        field = TextField.load(file)
        return Continue(self, field, NGrams.load(file, field.vocabulary))


class Continue:
    """What is given stands before what is written, one stream of tokens, and no encoder reads it.

    The start token stands before a text wherever it was cut off; the end token follows a whole document.
    """

    source_builder = redraw = None
    blank, loss_unit, no_prefix = Prediction("", 0.0), "nats per token", None

    def __init__(self, settings: ContinueSettings, field: TextField, ngrams: NGrams):
        self.settings, self.field, self.ngrams = settings, field, ngrams
        self.vocabulary, self.tags, self.fingerprint = field.vocabulary, field.tags, field.fingerprint
        self.files = {**field.files, **ngrams.files}
        self.metric: str = settings.metric
        self.baseline_name = ngrams.name

    def head(self, output: TokenEmbedding, widths: Widths) -> Head:
        return TokenHead(output)

    def row(self, given: Any, roles: Sequence[str] = ("source",)) -> Row:
        return self.field.row(given, roles)

    def is_blank(self, row: Row) -> bool:
        """Never: a text can begin with nothing."""
        return False

    def source(self, row: Row) -> list[int]:
        return [START, *self.field.encode(row["source"])]

    def written(self, answer: str) -> list[int]:
        return self.field.encode(answer)

    def example(self, row: Row) -> Example:
        """A whole document and its end, or where there is a source what follows it."""
        if "source" in row:
            return Example(self.source(row), _ids(self.field, row["target"]))
        return Example([START], [*_ids(self.field, row["target"]), END])

    def pack(self, rows: Encoded) -> PackedWindows:
        """All documents one after the other, cut into windows."""
        return PackedWindows(rows.target.values, self.settings.context)

    def loss(self, model: Model, batch: Batch) -> Loss:
        """Each token given all before it."""
        return model.head.loss(self._teacher_forced(model, batch), batch.target, ())

    def _teacher_forced(self, model: Model, batch: Batch) -> Decoded:
        state, last = prefilled(model, batch.source)
        before = torch.cat([last, batch.target.values[:, :-1]], dim=1)
        return model.advance(Padded(before, batch.target.lengths), None, state)[0]

    def judge(self, model: Model, batch: Batch) -> list[Prediction]:
        """The targets, with their log-probability."""
        decoded, (targets, lengths, _) = self._teacher_forced(model, batch), batch.target
        rows = enumerate(zip(targets.split(1), lengths.split(1), strict=True))
        losses = [model.head.loss(Decoded(decoded.features[row][None]), Padded(*one), ()) for row, one in rows]
        ids = batch.target.rows()
        return [Prediction("", -float(loss.total), tuple(one)) for loss, one in zip(losses, ids, strict=True)]

    def predict(self, model: Model, source: Padded, search: Search, prefix: Padded | None = None) -> list[Prediction]:
        """What follows, without what was given."""
        return write(self.field, PrefilledModel(model), prefilled(model, source), source, search, prefix)

    def look(self, model: Model, source: Ids, answer: Ids) -> AttentionMaps:
        """One pass over what was given and what was written; shown is where the one passes into the other."""
        whole = [*answer, END]
        stream = [*source, *whole[:-1]]
        maps, _ = recorded(model, stream, lambda tokens: model.advance(tokens, None, model.start(None, 1)))
        before, after = min(len(source), LOOKED_AT), min(len(whole), LOOKED_AT)
        seen = {name: _between(weights, len(source), before, after) for name, weights in maps.items()}
        steps = self.field.steps
        given, written = steps(source[len(source) - before :]), steps(whole[:after])
        return AttentionMaps.of(given, written, on_axes(seen, before, after))

    def baseline(self, rows: Sequence[Row]) -> list[Prediction]:
        """The same targets, with their log-probability by n-grams."""
        examples = [self.example(row) for row in rows]
        return [Prediction("", self.ngrams.log_prob(one.source[1:], one.target), tuple(one.target)) for one in examples]

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row], scoring: Scoring = Scoring()) -> Scores:
        """Of targets that were judged, not of answers."""
        nats, tokens = -sum(one.score for one in predictions), sum(len(one.ids) for one in predictions)
        characters = sum(len(self.field.normalise(row["target"])) for row in rows)
        values = {
            "loss_per_character": nats / characters,
            "bits_per_character": nats / characters / math.log(2),
            "loss": nats / tokens,
            "perplexity": math.exp(min(nats / tokens, 700)),
        }
        return Scores(values, SIGNATURES, tokens)

    def shown(self, row: Row) -> tuple[str, str]:
        return self.field.shown(row), row["target"]


class Prefilled(NamedTuple):
    """The decoder's state after what was given without its last token, and that token; leaves (batch, ...)."""

    state: State
    last: Tensor


def prefilled(model: Model, given: Padded) -> Prefilled:
    """A model that has read all but the last token of every row; there is one at least."""
    last = given.values.gather(1, given.lengths[:, None] - 1)
    state = model.start(None, len(last))
    if given.values.shape[1] > 1:
        _, state = model.advance(Padded(given.values[:, :-1], given.lengths - 1), None, state)
    return Prefilled(state, last)


class PrefilledModel:
    """Lets a search go on from a prompt: the start token, which every search begins with, becomes the prompt's last."""

    def __init__(self, model: Model):
        self.model = model

    def start(self, memory: Prefilled, rows: int, room: int = 0) -> State:
        return trees.repeat(memory.state, rows // len(memory.last))

    def advance(self, tokens: Padded, memory: Prefilled, state: State) -> tuple[Decoded, State]:
        last = trees.repeat(memory.last, len(tokens.values) // len(memory.last))
        values = torch.where(tokens.values == START, last, tokens.values)
        return self.model.advance(Padded(values, tokens.lengths), None, state)

    def log_probs(self, decoded: Decoded, memory: Prefilled) -> Tensor:
        return self.model.log_probs(decoded, None)


def _ids(field: TextField, text: str) -> list[int]:
    """Of a text of any length."""
    return [one for part in cut([text]) for one in field.encode(part)]


def _between(seen: Tensor, given: int, before: int, after: int) -> Tensor:
    """Attention over one stream, (heads, steps, steps), around the end of its first ``given`` steps.

    The step that read the last token given wrote the first answer, so it has a row on both sides. The answers' keys
    begin with a start token, which nothing looks at here.
    """
    rows = [*range(given - before, given), *range(given - 1, given - 1 + after)]
    keys = widen(seen[:, rows, given - before : given], (0, 1))
    return torch.cat([keys, seen[:, rows, given : given - 1 + after]], dim=-1)
