"""Spans: between characters of a text as it was written and the pieces that a model reads."""

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from regard.data.fields import TextField
from regard.data.tokenisers import HAN
from regard.errors import DataError
from regard.pieces import BLANK

LEAD, CONTINUED = 0xC0, 0x80
"""The two highest bits of a byte of UTF-8, and what they are where it goes on with a character."""


class Span(NamedTuple):
    """Characters from ``begin`` up to ``end``."""

    begin: int
    end: int


class Located(NamedTuple):
    """A text as ids; piece i stands for the characters from ``begins[i]`` up to ``ends[i]``, blanks before it aside."""

    ids: list[int]
    begins: list[int]
    ends: list[int]

    def pieces_of(self, span: Span) -> tuple[int, int]:
        """The first and the last piece that have a character of a span, which is not blank."""
        return bisect_right(self.ends, span.begin), max(bisect_left(self.begins, span.end) - 1, 0)

    def span_of(self, first: int, last: int) -> Span:
        """The characters of some pieces, from the first to the last."""
        return Span(self.begins[first], self.ends[last])


def locate(field: TextField, text: str) -> Located:
    """A text as the field encodes it, with the characters of ``text`` that each piece stands for.

    Raises:
        DataError: as `TextField.encode`.
    """
    ids = field.encode(text)
    composed, origins = _composed(text)
    spans = [*_spans(composed, field, ids)]
    begins = [origins[begin].begin for begin, _ in spans]
    ends = [origins[end - 1].end if end > begin else origins[begin].begin for begin, end in spans]
    return Located(ids, begins, ends)


def _composed(text: str) -> tuple[str, list[Span]]:
    """The text in the form that fields read (NFC), and which characters each of its characters comes from.

    One more span, behind the last character, is where the text ends. What composes with its neighbours stays together:
    a character begins anew where it is no mark and the text before it is composed without regard to it.
    """
    if unicodedata.is_normalized("NFC", text):
        return text, [Span(place, place + 1) for place in range(len(text) + 1)]
    composed, origins, begin = list[str](), list[Span](), 0
    for end in range(1, len(text) + 1):
        if end == len(text) or _apart(text[begin:end], text[end]):
            composed.extend(unicodedata.normalize("NFC", text[begin:end]))
            origins.extend([Span(begin, end)] * (len(composed) - len(origins)))
            begin = end
    return "".join(composed), [*origins, Span(len(text), len(text))]


def _apart(before: str, character: str) -> bool:
    """Whether a character composes with nothing before it."""
    one, other = (unicodedata.normalize("NFC", part) for part in (before, character))
    return not unicodedata.combining(character) and unicodedata.normalize("NFC", before + character) == one + other


def _spans(text: str, field: TextField, ids: list[int]) -> Iterator[tuple[int, int]]:
    """Where each piece stands in the text, read off what is written in the pieces; blanks may be any number."""
    place = 0
    for number, piece in zip(ids, field.steps(ids), strict=True):
        if field.tokeniser.processor.is_byte(number):
            place += int(piece[3:5], 16) & LEAD != CONTINUED
            yield place - 1, place
            continue
        while piece.startswith(BLANK) and text[place : place + 1] == " ":
            place += 1
        begin = place
        place += len(piece.lstrip(BLANK))
        yield begin, place


def places_of(text: str, passage: str) -> list[Span]:
    """Everywhere that a text stands in a passage: as whole words, or within others if it does nowhere else."""
    found = [Span(match.start(), match.end()) for match in re.finditer(re.escape(text), passage)] if text else []
    whole = [span for span in found if not _joined(passage, span.begin) and not _joined(passage, span.end)]
    return whole or found


def _joined(passage: str, place: int) -> bool:
    """Whether the characters before and after a place are letters or digits of one word."""
    beside = passage[max(place - 1, 0) : place + 1] if 0 < place < len(passage) else ""
    return len(beside) == 2 and beside.isalnum() and not re.search(f"[{HAN}]", beside)


def spans_of_answer(answer: str, start: str, passage: str) -> list[Span]:
    """The span that begins at ``start``, or wherever the answer stands in its passage if that is empty.

    Raises:
        DataError: it does not stand there.
    """
    if start:
        begin = int(start) if start.isdecimal() else len(passage)
        found = [Span(begin, begin + len(answer))] if answer and passage.startswith(answer, begin) else []
    else:
        found = places_of(answer, passage)
    if not found:
        where = f"at character {start} of" if start else "in"
        hint = "copy answers out of their passages, letter by letter"
        raise DataError(f"no answer {answer!r} {where} the passage {passage[:40]!r}...", hint=hint)
    return found
