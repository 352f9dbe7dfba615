"""Fields: between what a user writes and the ids a model reads."""

import hashlib
import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

from regard.data.learnt import LearntFile
from regard.data.rows import LONGEST_TEXT, Row, Rows, is_blank, row_with
from regard.data.splitting import tags_of
from regard.data.tokenisers import END, MOST_BYTES, Tokeniser, Vocabulary, learn_tokeniser, load_tokeniser
from regard.errors import DataError, did_you_mean, listed
from regard.padded import Ids

SHOWN = 8
"""Of many tags, so many are named in a message."""

MOST_LEARNT = 200_000
"""Rows whose text a vocabulary is learnt from: of a million pairs it takes seven gigabytes to learn one."""

VOCABULARY_FILE = "vocabulary.model"


class TextField:
    """Text as ids ending in the end token, in the composed form of Unicode (NFC), a tag's control token first."""

    def __init__(self, tokeniser: Tokeniser):
        self.tokeniser = tokeniser
        self._controls = frozenset(tokeniser.tags.values())

    @classmethod
    def learn(cls, rows: Rows, vocabulary: Vocabulary, roles: Sequence[str] = ("source", "target")) -> "TextField":
        """One vocabulary for the text of all these roles and for all tags."""
        texts = [cls.normalise(text) for role in roles for text in rows.texts(role, MOST_LEARNT)]
        return cls(learn_tokeniser(texts, vocabulary, sorted(tags_of(rows))))

    @classmethod
    def load(cls, file: LearntFile) -> "TextField":
        """Read back what `files` wrote.

        Raises:
            RunError: it is missing or damaged.
        """
        return cls(load_tokeniser(file(VOCABULARY_FILE, MOST_BYTES)))

    @property
    def files(self) -> dict[str, bytes]:
        """All it has learnt, by name."""
        return {VOCABULARY_FILE: self.tokeniser.serialised}

    @property
    def fingerprint(self) -> str:
        """Equal for fields that encode alike."""
        return hashlib.blake2b(self.tokeniser.serialised, digest_size=16).hexdigest()

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return len(self.tokeniser)

    @property
    def tags(self) -> Mapping[str, int]:
        """The control token of every tag."""
        return self.tokeniser.tags

    @staticmethod
    def row(given: Any, roles: Sequence[str] = ("source",)) -> Row:
        return row_with(given, roles, (str,), "a text")

    is_blank = staticmethod(is_blank)

    @staticmethod
    def shown(row: Row) -> str:
        """The source for people to read."""
        return str(row["source"])

    @staticmethod
    def normalise(text: str) -> str:
        return unicodedata.normalize("NFC", text)

    def encode(self, text: str) -> list[int]:
        """Ids of a text, without an end.

        Raises:
            DataError: the text is too long, or holds half of a surrogate pair, which no encoding can write.
        """
        if len(text) > LONGEST_TEXT:
            hint = f"cut it into parts of at most {LONGEST_TEXT:,}, better into sentences"
            raise DataError(f"a text of {len(text):,} characters", hint=hint)
        try:
            text.encode()
        except UnicodeEncodeError:
            hint = "it was cut or decoded wrongly where it comes from"
            raise DataError(f"half a character in {text!r}", hint=hint) from None
        return self.tokeniser.encode(self.normalise(text))

    def source(self, row: Row) -> list[int]:
        """Ids of a row's source.

        Raises:
            DataError: the row's tag was not seen in training, or is missing where the model needs one.
        """
        return [*self._control(row.get("tag")), *self.encode(row["source"]), END]

    def target(self, row: Row) -> list[int]:
        return [*self.encode(row["target"]), END]

    def resample(self, ids: Ids, smoothing: float) -> list[int]:
        """The same text in other pieces, drawn at random; control tokens and the end stay."""
        plain = [int(one) for one in ids]
        controls = [one for one in plain if one in self._controls]
        return [*controls, *self.tokeniser.sample(self.decode(plain), smoothing), END]

    def decode(self, ids: Sequence[int]) -> str:
        return self.normalise(self.tokeniser.decode(ids))

    def steps(self, ids: Ids) -> list[str]:
        return self.tokeniser.pieces(ids)

    def _control(self, tag: str | None) -> list[int]:
        tags = self.tokeniser.tags
        if tag is None:
            if tags:
                found = f"this model needs a tag with every source: {listed(tags, SHOWN)}"
                raise DataError(found, hint="give --tag TAG")
            return []
        if tag not in tags:
            hint = did_you_mean(tag, tags) if tags else "leave the tag out"
            raise DataError(f"tag '{tag}' was not seen in training", hint=hint)
        return [tags[tag]]
