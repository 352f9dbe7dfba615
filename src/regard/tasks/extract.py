"""Extract: a question and a passage in, a span of the passage out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from itertools import islice
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from regard.data.fields import MOST_LEARNT, TextField
from regard.data.learnt import LearntFile
from regard.data.questions import OTHERS, question_row
from regard.data.rows import Row, Rows, TextRows
from regard.data.spans import Located, locate, spans_of_answer
from regard.data.tokenisers import END, SPECIAL_TOKENS, Vocabulary
from regard.decoding.search import Search
from regard.errors import DataError
from regard.inspection.alignment import AttentionMaps, on_axes
from regard.layers.embeddings import TokenEmbedding
from regard.layers.segments import SegmentedEmbedding
from regard.metrics.spans import span_scores
from regard.models.heads import Head
from regard.models.model import Model
from regard.models.parts import Decoded, Loss, Memory, Widths
from regard.models.pointer_head import STEPS, PointerHead, best_spans
from regard.padded import Ids, Padded, Record
from regard.settings import Settings
from regard.tasks.baselines.sliding_window import SlidingWindow
from regard.tasks.passages import Windows, cut, cut_to_answer, windows_of
from regard.tasks.sources import FieldTask
from regard.tasks.task import Batch, Example, Prediction, Scores, Scoring, read_off, recorded

LOWEST = -1e30
"""Spans that score less are outside of the passage."""

CANDIDATES = 50
"""Spans that are looked at, of which those of the same text are one answer."""

MOST_ALTERNATIVES = 9

POINTER = "head/pointer"
AXIS = ("▁start", "▁end")
"""What the two steps of an answer are called."""


class ExtractSettings(Settings):
    """What Extract can be told."""

    kind: Literal["extract"] = "extract"
    longest: int = Field(default=50, ge=1, description="pieces of an answer, at most")
    window: int = Field(default=512, ge=8, description="pieces of question and passage read at once")
    metric: Literal["f1", "exact_match", "loss"] = "f1"

    def learn(self, train: Rows, vocabulary: Vocabulary) -> "Extract":
        """A task with one vocabulary for questions and passages, from the training rows alone."""
        texts = dict.fromkeys(text for role in ("source", "passage") for text in train.texts(role, MOST_LEARNT))
        field = TextField.learn(TextRows.of({"source": text} for text in texts), vocabulary, ["source"])
        return Extract(self, field, SlidingWindow.learn(train.texts("target", MOST_LEARNT)))

    def restore(self, file: LearntFile, vocabulary: Vocabulary) -> "Extract":
        """The same task from its files."""
        field = TextField.load(file)
        return Extract(self, field, SlidingWindow.load(file))


@dataclass(frozen=True)
class Extracted(Prediction):
    """A span of the passage: its text, which characters it is, and the log-probability of its text wherever it stands.

    Until it is put in terms of its row, the text is what its pieces say, and the characters are not known.
    """

    span: tuple[int, int] = (0, 0)
    pieces: tuple[int, int] = field(default=(0, 0), compare=False)
    locate: Callable[[str], Located] | None = field(default=None, repr=False, compare=False)

    def within(self, row: Row) -> "Extracted":
        if self.locate is None:
            return self
        span = self.locate(row["passage"]).span_of(*self.pieces)
        others = tuple(one.within(row) for one in self.alternatives)
        return replace(self, text=row["passage"][slice(*span)], span=span, alternatives=others, locate=None)

    def to_json(self) -> dict[str, Any]:
        return self._told() | {"alternatives": [cast(Extracted, one)._told() for one in self.alternatives]}

    def _told(self) -> dict[str, Any]:
        return {"text": self.text, "span": list(self.span), "score": self.score}


class Extract(FieldTask):
    """Question and passage are read as one sequence, each with an end; two steps point at the passage."""

    blank, loss_unit = Extracted("", 0.0), "nats per answer"
    no_prefix = "a span has no beginning to go on from"
    field: TextField
    tags = frozenset[str]()
    vocabulary = SPECIAL_TOKENS  # of the two tokens before the steps; the source has an embedding of its own

    def __init__(self, settings: ExtractSettings, field: TextField, baseline: SlidingWindow):
        self.settings, self.field, self.without_model = settings, field, baseline
        self.files = {**field.files, **baseline.files}
        self.fingerprint = field.fingerprint
        self.metric: str = settings.metric
        self.source_builder = partial(SegmentedEmbedding, field.vocabulary, end=END)
        self.locate = lru_cache(maxsize=256)(partial(locate, field))

    def head(self, output: TokenEmbedding, widths: Widths) -> Head:
        return PointerHead(widths)

    def row(self, given: Any, roles: Sequence[str] = ("source",)) -> Row:
        row = question_row(given)
        if isinstance(row, str) and not row.strip():
            return {"source": "", "passage": ""}
        if isinstance(row, Mapping) and all(isinstance(row.get(role), str) for role in (*roles, "passage")):
            return row
        wanted = " and ".join(map(repr, (*roles, "passage")))
        hint = 'write {"question": "...", "passage": "..."}, or both on a line with a tab between them'
        raise DataError(f"a row is a mapping with {wanted}, not {given!r}", hint=hint)

    def is_blank(self, row: Row) -> bool:
        return not (row["source"].strip() and row["passage"].strip())

    def source(self, row: Row) -> list[int]:
        return [*self.field.encode(row["source"]), END, *self.locate(row["passage"]).ids, END]

    def written(self, answer: str) -> list[int]:
        return self.field.encode(answer)

    def example(self, row: Row) -> Example:
        """The first and the last step of every span that is right."""
        source, passage = self.source(row), self.locate(row["passage"])
        before = len(source) - len(passage.ids) - 1
        spans = spans_of_answer(row["target"], row.get("start", ""), row["passage"])
        return Example(source, [before + piece for span in spans for piece in passage.pieces_of(span)])

    def loss(self, model: Model, batch: Batch) -> Loss:
        batch = cut_to_answer(batch, self.settings.window)
        memory, decoded = self._decided(model, batch.source)
        return model.head.loss(decoded, batch.target, memory.head)

    def _decided(self, model: Model, source: Padded) -> tuple[Memory, Decoded]:
        return read_off(model, source, torch.full_like(source.lengths, STEPS))

    def _scores(self, model: Model, source: Padded) -> Float[Tensor, "rows steps time"]:
        memory, decoded = self._decided(model, source)
        return cast(PointerHead, model.head).scores(decoded, memory.head)

    def predict(self, model: Model, source: Padded, search: Search, prefix: Padded | None = None) -> list[Prediction]:
        """The most likely span, and the next ones with other texts; long passages are read in parts."""
        windows = cut(source, self.settings.window)
        places = _likely(self._scores(model, windows.source), windows, self.settings.longest)
        return [self._answer(ids, found) for ids, found in zip(source.rows(), places, strict=True)]

    def _answer(self, ids: list[int], places: dict[tuple[int, int], float]) -> Prediction:
        """The best answer; what has the same text is one, wherever it stands (Kadlec et al. 2016, 1603.01547)."""
        answers = dict[str, list[tuple[float, tuple[int, int]]]]()
        for (first, last), score in places.items():
            text = self.field.decode(ids[first : last + 1]).strip()
            answers.setdefault(text, []).append((score, (first, last)))
        sums = {text: float(np.logaddexp.reduce([score for score, _ in found])) for text, found in answers.items()}
        ranked = sorted(filter(None, sums), key=lambda text: -sums[text]) or [*sums]  # a mark of a blank is no answer
        found = (self._extracted(text, sums[text], ids, max(answers[text])[1]) for text in ranked)
        return Prediction.best_of(islice(found, 1 + MOST_ALTERNATIVES))

    def _extracted(self, text: str, score: float, ids: list[int], steps: tuple[int, int]) -> Extracted:
        (first, last), before = steps, ids.index(END) + 1
        answer, pieces = tuple(ids[first : last + 1]), (first - before, last - before)
        return Extracted(text, score, answer, tuple(self.field.steps(answer)), pieces=pieces, locate=self.locate)

    def look(self, model: Model, source: Record, answer: Ids) -> AttentionMaps:
        """One pass over the part of the passage that the answer is in; the head's own map is where it points."""
        windows = windows_of([*map(int, source)], self.settings.window)
        ids = next((one.ids for one in windows if _has(one.ids, [*answer])), windows[0].ids)
        maps, scores = recorded(model, ids, partial(self._scores, model))
        axes = on_axes(maps | {POINTER: scores.softmax(-1).cpu()}, len(ids), STEPS)
        return AttentionMaps.of(self.field.steps(ids), AXIS, axes)

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row], scoring: Scoring = Scoring()) -> Scores:
        texts = [one.text for one in predictions]
        references = [[row["target"], *filter(None, row.get("others", "").split(OTHERS))] for row in rows]
        exact, overlap, rules = span_scores(texts, references)
        signatures = {"exact_match": f"exact_match|rules:{rules}", "f1": f"f1|rules:{rules}"}
        return Scores({"exact_match": exact, "f1": overlap}, signatures, 0)

    def shown(self, row: Row) -> tuple[str, str]:
        return f"{row['source']}\t{row['passage']}", row["target"]


def _has(ids: list[int], answer: list[int]) -> bool:
    """Whether an answer stands in the passage of a window."""
    places = range(ids.index(END) + 1, len(ids) - len(answer))
    return any(ids[place : place + len(answer)] == answer for place in places)


def _likely(
    scores: Float[Tensor, "windows steps time"], windows: Windows, longest: int
) -> list[dict[tuple[int, int], float]]:
    """For each source the log-probability of its best spans, by their first and last step; all its windows compete."""
    found = [dict[tuple[int, int], float]() for _ in range(windows.owners[-1] + 1)]
    sums, owners = scores.logsumexp(-1), torch.tensor(windows.owners, device=scores.device)
    norms = [float(sums[owners == row].logsumexp(0).sum()) for row in range(len(found))]
    best = zip(*(one.tolist() for one in best_spans(scores, longest, CANDIDATES)), strict=True)
    for owner, offset, spans in zip(windows.owners, windows.offsets, best, strict=True):
        for score, first, last in zip(*spans, strict=True):
            place, score = (first + offset, last + offset), score - norms[owner]
            if score > LOWEST:
                found[owner][place] = max(score, found[owner].get(place, LOWEST))
    return found
