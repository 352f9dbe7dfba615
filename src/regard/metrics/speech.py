"""Scores of transcripts: pure functions of texts and references."""

from collections.abc import Sequence
from functools import lru_cache

Symbols = str | tuple[str, ...]

KEPT = 1 << 14
"""Distances that are not computed again when rows are drawn many times."""


def word_error_rate(predictions: Sequence[str], references: Sequence[str]) -> float:
    """Words to put in, take out or replace, for each 100 words of the references; it can exceed 100."""
    return error_rate([tuple(one.split()) for one in predictions], [tuple(one.split()) for one in references])


def character_error_rate(predictions: Sequence[str], references: Sequence[str]) -> float:
    """The same for characters, blanks among them."""
    return error_rate(predictions, references)


def error_rate(predictions: Sequence[Symbols], references: Sequence[Symbols]) -> float:
    """Edits for each 100 symbols of all references together."""
    edits = sum(edit_distance(one, other) for one, other in zip(predictions, references, strict=True))
    return 100 * edits / max(sum(map(len, references)), 1)


@lru_cache(maxsize=KEPT)
def edit_distance(one: Symbols, other: Symbols) -> int:
    """The fewest insertions, deletions and replacements from the one to the other (Levenshtein 1966)."""
    row = [*range(len(other) + 1)]
    for place, symbol in enumerate(one, start=1):
        before, row = row, [place]
        for column, wanted in enumerate(other):
            row.append(min(row[-1] + 1, before[column + 1] + 1, before[column] + (symbol != wanted)))
    return row[-1]
