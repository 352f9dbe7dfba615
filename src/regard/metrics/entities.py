"""Named entities in sequences of tags, and their scores as CoNLL counts them."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

OUTSIDE = "O"
_ALIASES = {"B": "B", "I": "I", "M": "I", "E": "E", "L": "E", "S": "S", "U": "S"}
"""IOB1, IOB2, BIOES, BMES and BILOU in the letters of BIOES."""


class Entity(NamedTuple):
    """What it is, and its first token and the one after its last."""

    kind: str
    begin: int
    end: int


class Found(NamedTuple):
    """Scores from 0 to 100."""

    precision: float
    recall: float
    f1: float


def marks_entities(tags: Iterable[str]) -> bool:
    """Whether tags say where something begins, goes on or is not: those of named entities do, word classes do not."""
    tags = set(tags)
    return OUTSIDE in tags or all(_parts(tag)[0] != "" for tag in tags)


def entities(tags: Sequence[str]) -> list[Entity]:
    """Runs of tags of one kind, cut where a tag says that one begins (B, S) or the one before that it ended (E, S).

    Whatever the tags, each but "O" is in exactly one entity: an entity that begins with I or E, or goes on as another
    kind, counts as one (Tjong Kim Sang and De Meulder 2003, W03-0419). A tag without B-, I-, ... is a kind itself.
    """
    found: list[Entity] = []
    before = ("", OUTSIDE)
    for place, tag in enumerate(tags):
        mark, kind = _parts(tag)
        begins = mark in ("B", "S") or before[0] in ("E", "S") or before[1] != kind or before == ("", OUTSIDE)
        if tag != OUTSIDE:
            begin = place if begins else found.pop().begin
            found.append(Entity(kind, begin, place + 1))
        before = mark, kind
    return found


def _parts(tag: str) -> tuple[str, str]:
    """What a tag says of the place in an entity ("" if nothing), and of its kind."""
    letter, dash, kind = tag.partition("-")
    if letter in _ALIASES and (dash or not kind):
        return _ALIASES[letter], kind
    return "", tag


def entity_scores(predictions: Sequence[Sequence[str]], references: Sequence[Sequence[str]]) -> Found:
    """Of entities whose kind and both ends are right, over all rows together.

    Args:
        predictions: the tags of each row.
        references: as many tags for each row.
    """
    right = found = wanted = 0
    for one, other in zip(predictions, references, strict=True):
        ours, theirs = set(entities(one)), set(entities(other))
        right, found, wanted = right + len(ours & theirs), found + len(ours), wanted + len(theirs)
    return Found(100 * right / max(found, 1), 100 * right / max(wanted, 1), 200 * right / max(found + wanted, 1))
