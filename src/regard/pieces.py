"""How pieces of text are written, and which of them make a word: what vocabularies, tasks and pages agree upon."""

import re
import unicodedata
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

BLANK = "▁"
"""A blank within a piece, as sentencepiece writes it."""

STAND_IN = "\ufdd0"
"""What pieces hold where a text has that very sign: a code point that Unicode keeps out of texts."""

_SPECIAL = re.compile(r"</?s>|<pad>|<unk>|<2[^<>]+>")
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
# Kana and Han, Thai and Lao, Tibetan, Myanmar, Khmer
_UNSPACED = re.compile("[\u3005-\u3007\u3040-\u30ff\uff66-\uff9f\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
                       "\u0e00-\u0eff\u0f00-\u0fff\u1000-\u109f\u1780-\u17ff]")  # fmt: skip


class Word(NamedTuple):
    """A word as it is read, and the places of its pieces."""

    text: str
    pieces: tuple[int, ...]


def merge_words(pieces: Sequence[str]) -> list[Word]:
    """Pieces as words; every piece belongs to exactly one.

    A word begins at "▁" or at the end of a line. Special tokens are words of their own, and bytes are first decoded
    into characters. Text in scripts that write no spaces is one long run, so there every piece is a word; digits
    beside it stay together, and combining and lengthening marks stay with what they modify. Punctuation after a digit
    stands alone, so that the parts of "2024-01-05" can be looked at one by one.
    """
    words: list[Word] = []
    for fragment in _fragments(pieces):
        apart = not words or is_special(words[-1], pieces) or is_special(fragment, pieces)
        if not apart and not _begins_word(words[-1].text, fragment.text):
            words[-1] = Word(words[-1].text + fragment.text, words[-1].pieces + fragment.pieces)
        else:
            words.append(fragment)
    return [Word(_as_read(word.text), word.pieces) for word in words]


def _as_read(text: str) -> str:
    return (text.replace(BLANK, " ").strip() or BLANK).replace(STAND_IN, BLANK)


def is_special(word: Word, pieces: Sequence[str]) -> bool:
    """Whether a word is a control token; the same letters written by a user come in other pieces."""
    return len(word.pieces) == 1 and bool(_SPECIAL.fullmatch(pieces[word.pieces[0]]))


def _begins_word(before: str, fragment: str) -> bool:
    if fragment.startswith((BLANK, "\n")):
        return True
    if before == BLANK or unicodedata.category(fragment[0]) in ("Mn", "Mc", "Me", "Lm"):
        return False
    if _writes_no_spaces(before[-1]) or _writes_no_spaces(fragment[0]):
        return True
    if _is_punctuation(fragment[0]):
        return before[-1].isdigit()
    return _is_punctuation(before[0])


def _is_punctuation(character: str) -> bool:
    return unicodedata.category(character).startswith("P")


def _writes_no_spaces(character: str) -> bool:
    return bool(_UNSPACED.match(character)) and not character.isdigit()


def _fragments(pieces: Sequence[str]) -> Iterator[Word]:
    """Pieces one by one, but the bytes of one character together."""
    for is_byte, group in groupby(enumerate(pieces), lambda numbered: bool(_BYTE.fullmatch(numbered[1]))):
        if is_byte:
            yield from _characters([(place, int(piece[3:5], 16)) for place, piece in group])
        else:
            yield from (Word(piece, (place,)) for place, piece in group)


def _characters(numbered: list[tuple[int, int]]) -> Iterator[Word]:
    starts = [at for at, (_, byte) in enumerate(numbered) if at == 0 or byte & 0xC0 != 0x80]
    for start, end in zip(starts, [*starts[1:], len(numbered)], strict=True):
        places, values = zip(*numbered[start:end], strict=True)
        yield Word(bytes(values).decode(errors="replace"), places)
