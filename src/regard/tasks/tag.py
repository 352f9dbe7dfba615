"""Tag: tokens in, a tag for each out. Named entities, parts of speech, words of a script without spaces: data."""

from collections.abc import Iterator, Sequence
from functools import partial
from itertools import chain
from typing import Any, ClassVar, Literal, cast

import torch

from regard.data.fields import TextField
from regard.data.labels import Labels
from regard.data.learnt import LearntFile
from regard.data.rows import Row, Rows
from regard.data.tagged import words_of
from regard.data.tokenisers import Vocabulary
from regard.decoding.search import Search
from regard.errors import DataError
from regard.inspection.alignment import AttentionMaps, on_axes
from regard.layers.embeddings import TokenEmbedding
from regard.metrics.entities import entity_scores, marks_entities
from regard.metrics.labels import accuracy
from regard.models.heads import Head
from regard.models.model import Model
from regard.models.parts import Decoded, Loss, Memory, Widths
from regard.models.tag_heads import SeparateTagsPart, TagHead, TagHeadPart
from regard.padded import Ids, Padded
from regard.pieces import BLANK
from regard.settings import Settings
from regard.tasks.baselines.frequent_tags import FrequentTags
from regard.tasks.sources import FieldTask
from regard.tasks.task import Batch, Example, Prediction, Scores, Scoring, recorded

SIGNATURES = {
    "entity_f1": "f1|average:micro|unit:entity|match:exact|counted:conlleval",
    "entity_precision": "precision|average:micro|unit:entity|match:exact|counted:conlleval",
    "entity_recall": "recall|average:micro|unit:entity|match:exact|counted:conlleval",
    "token_accuracy": "accuracy|unit:token",
}


class TagSettings(Settings):
    """What Tag can be told."""

    decoders: ClassVar[tuple[str, ...]] = ("aligned",)

    kind: Literal["tag"] = "tag"
    head: TagHeadPart = SeparateTagsPart()
    metric: Literal["entity_f1", "token_accuracy", "loss"] | None = None
    """None: entity F1 where tags mark entities, otherwise token accuracy."""

    def learn(self, train: Rows, vocabulary: Vocabulary) -> "Tag":
        """A task with a vocabulary of the tokens and all tags of the training rows."""
        field = TextField.learn(train, vocabulary, ["source"])
        labels = Labels.learn(tag for _, tags in _pairs(train) for tag in tags)
        return Tag(self, field, labels, FrequentTags.learn(labels, _pairs(train)))

    def restore(self, file: LearntFile, vocabulary: Vocabulary) -> "Tag":
        """The same task from its files."""
        field = TextField.load(file)
        labels = Labels.load(file)
        return Tag(self, field, labels, FrequentTags.load(file, labels))


def _pairs(rows: Rows) -> Iterator[tuple[list[str], list[str]]]:
    """Tokens and tags of each row."""
    sources, targets = (map(words_of, rows.texts(role, len(rows))) for role in ("source", "target"))
    return zip(sources, targets, strict=True)


class Tagged(Prediction):
    """A tag for each token, with their mean log-probability."""

    @property
    def tags(self) -> list[str]:
        return words_of(self.text)

    def to_json(self) -> dict[str, Any]:
        return {"tags": self.tags, "tokens": list(self.tokens), "score": self.score}


class Tag(FieldTask):
    """Tokens are what blanks keep apart; each is read in pieces, and its tag where its first piece stands.

    Where training has a token for each character, a text without blanks is read by characters.
    """

    blank, loss_unit = Tagged("", 0.0), "nats per tag"
    no_prefix = "tags have no beginning to go on from"
    field: TextField
    without_model: FrequentTags

    def __init__(self, settings: TagSettings, field: TextField, labels: Labels, baseline: FrequentTags):
        self.settings, self.field, self.labels, self.without_model = settings, field, labels, baseline
        self.vocabulary, self.tags = field.vocabulary, field.tags
        self.files = {**field.files, **labels.files, **baseline.files}
        self.fingerprint = f"{field.fingerprint} {labels.names}"
        self.has_entities = settings.metric == "entity_f1" or marks_entities(labels.names)
        self.metric: str = settings.metric or ("entity_f1" if self.has_entities else "token_accuracy")

    def head(self, output: TokenEmbedding, widths: Widths) -> Head:
        """A score for each tag."""
        begins = [piece.startswith(BLANK) for piece in self.field.steps(range(self.vocabulary))]
        return self.settings.head.build(len(self.labels), widths, torch.tensor(begins))

    def row(self, given: Any, roles: Sequence[str] = ("source",)) -> Row:
        """Raises DataError too where there are not as many tags as tokens."""
        row = self.field.row(given, roles)
        if "target" in row:
            _refuse_unequal(words_of(row["source"]), words_of(row["target"]))
        elif self.without_model.by_character and len(words_of(row["source"])) == 1:
            return {**row, "source": " ".join(row["source"].strip())}
        return row

    def is_blank(self, row: Row) -> bool:
        return not words_of(row["source"])

    def source(self, row: Row) -> list[int]:
        text = "".join(f" {token}" for token in words_of(row["source"]))  # a blank first, where a vocabulary adds none
        return self.field.source({**row, "source": text})

    def written(self, answer: str) -> list[int]:
        return [self.labels.number(tag) for tag in words_of(answer)]

    def example(self, row: Row) -> Example:
        return Example(self.source(row), self.written(row["target"]))

    def loss(self, model: Model, batch: Batch) -> Loss:
        memory, decoded = self._read(model, batch.source)
        return model.head.loss(decoded, batch.target, memory.head)

    def _read(self, model: Model, source: Padded) -> tuple[Memory, Decoded]:
        """Features of every piece; the decoder looks at no tokens, so that the source itself will do for them."""
        memory = model.encode(source)
        return memory, model.advance(source, memory, model.start(memory, len(source.lengths)))[0]

    def predict(self, model: Model, source: Padded, search: Search, prefix: Padded | None = None) -> list[Prediction]:
        """The likeliest tags."""
        memory, decoded = self._read(model, source)
        tags, scores = cast(TagHead, model.head).best(decoded, memory.head)
        rows = zip(source.rows(), tags.rows(), scores.tolist(), strict=True)
        return [self._prediction(ids, numbers, score) for ids, numbers, score in rows]

    def _prediction(self, ids: list[int], numbers: list[int], score: float) -> Prediction:
        text = " ".join(self._names(numbers))
        tokens = tuple(words_of(self.field.decode(ids)))
        return Tagged(text, score / max(len(numbers), 1), tuple(numbers), tokens)

    def _names(self, numbers: Ids) -> list[str]:
        return [self.labels.names[number] for number in numbers]

    def look(self, model: Model, source: Ids, answer: Ids) -> AttentionMaps:
        """What was looked at where each token's first piece stands.

        Raises:
            DataError: there are not as many tags as tokens.
        """
        maps, (memory, _) = recorded(model, source, partial(self._read, model))
        places, tags = memory.head.rows()[0], self._names(answer)
        _refuse_unequal(places, tags)
        seen = on_axes(maps, len(source), len(source))
        at_tokens = {_of_tags(name): weights[:, places] for name, weights in seen.items()}
        return AttentionMaps.of(self.field.steps(source), [f"{BLANK}{tag}" for tag in tags], at_tokens)

    def score(self, predictions: Sequence[Prediction], rows: Sequence[Row], scoring: Scoring = Scoring()) -> Scores:
        found, wanted = [words_of(one.text) for one in predictions], [words_of(row["target"]) for row in rows]
        values = {"token_accuracy": accuracy([*chain(*found)], [*chain(*wanted)])}
        if self.has_entities:
            precision, recall, f1 = entity_scores(found, wanted)
            values = {"entity_f1": f1, "entity_precision": precision, "entity_recall": recall} | values
        return Scores(values, {name: SIGNATURES[name] for name in values}, 0)


def _refuse_unequal(tokens: Sequence[Any], tags: Sequence[str]) -> None:
    if len(tokens) != len(tags):
        hint = "give one tag for each token, with blanks between them"
        raise DataError(f"{len(tokens)} tokens and {len(tags)} tags", hint=hint)


def _of_tags(name: str) -> str:
    """``tags/0/cross`` for ``encoder/0/self``: what a tag saw of the tokens."""
    return name.replace("encoder/", "tags/").replace("/self", "/cross")
