"""Generate: a source in, a text out. Translation, transliteration, rewriting: data, not code."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Annotated, Any, Literal

import torch
from pydantic import Field

from regard.attention import record
from regard.data.fields import VOCABULARY_FILE, TextField
from regard.data.rows import Row, Rows
from regard.data.tokenisers import END, MOST_BYTES, PAD, START, UNKNOWN, Vocabulary
from regard.decoding.interface import Hypothesis, Tokens
from regard.decoding.search import Search, search
from regard.inspection.alignment import AttentionMaps, on_axes
from regard.layers.embeddings import TokenEmbedding
from regard.metrics import text as metrics
from regard.models.copy_head import CopyHeadPart
from regard.models.heads import Head, TokenHeadPart
from regard.models.model import Model
from regard.models.parts import Decoded, Loss, Memory, Widths
from regard.padded import Ids, Padded, pad
from regard.settings import Settings
from regard.tasks.task import Batch, Example, LearntFile, Prediction, Scores, Scoring

ENDS = Tokens(START, END)
NEVER_WRITTEN = (PAD, UNKNOWN, START)


TextHeadPart = Annotated[TokenHeadPart | CopyHeadPart, Field(discriminator="kind")]
"""Heads that write tokens."""


class GenerateSettings(Settings):
    """What Generate can be told."""

    kind: Literal["generate"] = "generate"
    head: TextHeadPart = TokenHeadPart()
    label_smoothing: float = Field(default=0.1, ge=0, lt=1)
    consistency: float = Field(default=0, ge=0, description="R-Drop's alpha; 0: off")
    metric: Literal["bleu", "chrf", "exact_match", "loss"] = "bleu"

    def learn(self, train: Rows, vocabulary: Vocabulary) -> "Generate":
        """A task with one vocabulary for both sides and all tags, from the training rows alone."""
        return Generate(self, TextField.learn(train, vocabulary), vocabulary.sampling)

    def restore(self, file: LearntFile, vocabulary: Vocabulary) -> "Generate":
        """The same task from its files."""
        return Generate(self, TextField.load(file(VOCABULARY_FILE, MOST_BYTES)), vocabulary.sampling)


class Generate:
    """One joint vocabulary for both sides; the answer is searched for token by token."""

    baseline_name, blank, source_builder = "copy source", Prediction("", 0.0), None

    def __init__(self, settings: GenerateSettings, field: TextField, sampling: float | None = None):
        self.settings, self.field = settings, field
        self.redraw = partial(self._redrawn, smoothing=sampling) if sampling else None
        self.vocabulary, self.tags, self.files = field.vocabulary, field.tags, field.files
        self.metric: str = settings.metric
        self.fingerprint = field.fingerprint

    def head(self, output: TokenEmbedding, widths: Widths) -> Head:
        return self.settings.head.build(output, widths, self.settings.label_smoothing)

    def row(self, given: Any, roles: Sequence[str] = ("source",)) -> Row:
        return self.field.row(given, roles)

    def is_blank(self, row: Row) -> bool:
        return self.field.is_blank(row)

    def source(self, row: Row) -> list[int]:
        return self.field.source(row)

    def written(self, answer: str) -> list[int]:
        return self.field.encode(answer)

    def example(self, row: Row) -> Example:
        return Example(self.source(row), self.field.target(row))

    def _redrawn(self, example: Example, smoothing: float) -> Example:
        return Example(*(self.field.resample(side, smoothing) for side in example))

    def loss(self, model: Model, batch: Batch) -> Loss:
        """Each token given the source and all tokens before it (teacher forcing)."""
        if not (self.settings.consistency and model.training):
            memory, decoded = self._forced(model, batch)
            return model.head.loss(decoded, batch.target, memory.head)
        return self._consistent_loss(model, batch)

    def _forced(self, model: Model, batch: Batch) -> tuple[Memory, Decoded]:
        memory = model.encode(batch.source)
        state = model.start(memory, len(batch.target.lengths))
        return memory, model.advance(delayed(batch.target), memory, state)[0]

    def _consistent_loss(self, model: Model, batch: Batch) -> Loss:
        """The mean loss of two passes with dropout of their own, and how far their predictions lie apart.

        R-Drop (Liang et al. 2021, arXiv 2106.14448), equation 4, divided by two so that it stays a loss per token.
        """
        (memory, first), (other_memory, second) = self._forced(model, batch), self._forced(model, batch)
        memories = memory.head, other_memory.head
        one, other = (
            model.head.loss(decoded, batch.target, kept)
            for decoded, kept in zip((first, second), memories, strict=True)
        )
        apart = model.head.divergence(first, second, batch.target, memories)
        total = (one.total + other.total + self.settings.consistency * apart / 2) / 2
        means = {name: (part + other.parts[name]) / 2 for name, part in one.parts.items()}
        return Loss(total, one.count, means | {"divergence": apart.detach()})

    def predict(self, model: Model, source: Padded, search_: Search, prefix: Padded | None = None) -> list[Prediction]:
        memory = model.encode(source)
        found = search(model, memory, source.lengths, search_, ENDS, NEVER_WRITTEN, prefix)
        return [self._prediction(row) for row in found]

    @torch.inference_mode()
    def look(self, model: Model, source: Ids, answer: Ids) -> AttentionMaps:
        """One pass over source and answer."""
        device, whole = next(model.parameters()).device, [*answer, END]
        batch = Batch(pad([source]), pad([whole])).to(device)
        with record(model) as maps:
            memory, decoded = self._forced(model, batch)
            model.log_probs(decoded, memory)  # a head that copies looks too
        pieces, seen = self.field.steps, {name: weights[0].cpu() for name, weights in maps.items()}
        return AttentionMaps.of(pieces(source), pieces(whole), on_axes(seen, len(source), len(whole)))

    def baseline(self, rows: Sequence[Row]) -> list[Prediction]:
        """The source, copied."""
        return [Prediction(row["source"], 0.0) for row in rows]

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row], scoring: Scoring = Scoring()) -> Scores:
        texts, references = [one.text for one in predictions], [row["target"] for row in rows]
        tokenize = scoring.tokenize or metrics.bleu_tokenizer(references)
        scored = {
            "bleu": metrics.bleu(texts, references, tokenize=tokenize, lowercase=scoring.lowercase),
            "chrf": metrics.chrf(texts, references, lowercase=scoring.lowercase),
            "exact_match": metrics.exact_match(texts, references),
        }
        return Scores(
            {name: one.score for name, one in scored.items()},
            {name: one.signature for name, one in scored.items()},
            scored["bleu"].reference_tokens or 0,
        )

    def shown(self, row: Row) -> tuple[str, str]:
        return self.field.shown(row), row["target"]

    def _prediction(self, found: list[Hypothesis]) -> Prediction:
        best, *others = (self._answer(one) for one in found)
        return replace(best, alternatives=tuple(others))

    def _answer(self, found: Hypothesis) -> Prediction:
        ids = tuple(found.tokens)
        return Prediction(self.field.decode(ids), found.score, ids, tuple(self.field.steps(ids)))


def delayed(target: Padded) -> Padded:
    """The target one step late, beginning with the start token: what the decoder has read when it writes each token."""
    starts = torch.full_like(target.values[:, :1], START)
    return Padded(torch.cat([starts, target.values[:, :-1]], dim=1), target.lengths)
