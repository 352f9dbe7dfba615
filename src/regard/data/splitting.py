"""Rows for training and rows held out: by hashes, so that neither order nor memory matters."""

import hashlib
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence

import numpy as np
from jaxtyping import Bool, UInt64
from numpy import ndarray

from regard.data.rows import Row, Rows, TextRows
from regard.errors import DataError, did_you_mean

DEV_SHARE = 0.05

Hashes = UInt64[ndarray, "_"]


def hashes_of(texts: Sequence[str]) -> Hashes:
    """64 bits of each text, the same on every machine."""
    digests = b"".join(hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
    return np.frombuffer(digests, ">u8").astype(np.uint64)


def source_hashes(rows: Sequence[Row]) -> Hashes:
    """Equal for sources that differ only in case and in blanks."""
    return hashes_of([" ".join(row["source"].casefold().split()) for row in rows])


def usable(
    rows: Hashes, sources: Hashes, test: Sequence[Row], dev: Sequence[Row], dropped: Counter[str]
) -> Bool[ndarray, "_"]:
    """Which rows to train on: the first of equal ones, and none whose source is held out; others are counted."""
    kept = np.zeros(len(rows), bool)
    kept[np.unique(rows, return_index=True)[1]] = True
    dropped["duplicate"] += int(np.count_nonzero(~kept))
    for held, reason in ((test, "also in test"), (dev, "also in dev")):
        leaving = kept & np.isin(sources, source_hashes(held))
        dropped[reason] += int(np.count_nonzero(leaving))
        kept &= ~leaving
    for reason in [reason for reason, count in dropped.items() if not count]:
        del dropped[reason]
    return kept


def split(
    rows: TextRows, hashes: Hashes, most: int, learnt: Callable[[Row], Iterable[str]] | None = None
) -> tuple[TextRows, TextRows]:
    """Training and dev rows by a hash of the source, so that equal sources never straddle and order does not matter.

    Up to `DEV_SHARE` of the rows and at most so many are held out, but always one source, and never the last one of
    any tag, or of any value that can be ``learnt`` of a row, such as its label.

    Raises:
        DataError: that leaves nothing to hold out.
    """
    kept = np.isin(hashes, _last_of_each_tag(rows, hashes))
    numbers, sizes = np.unique(hashes[~kept], return_counts=True)
    if not len(numbers):
        found = "too few rows of each tag" if "tag" in rows.roles else "too few different texts"
        raise DataError(f"{found} to hold any out", hint="give rows to choose by with --dev")
    fits = (numbers < DEV_SHARE * 2**64) & (np.cumsum(sizes) <= most)
    held = (hashes <= numbers[max(int(np.count_nonzero(fits)) - 1, 0)]) & ~kept
    if learnt:
        held &= ~np.isin(hashes, _with_unseen(rows, hashes, held, learnt))
    if not held.any():
        hint = "give rows to choose by with --dev"
        raise DataError("every row that could be held out has a label or tag of its own", hint=hint)
    return rows.choose(np.flatnonzero(~held)), rows.choose(np.flatnonzero(held))


def _with_unseen(
    rows: TextRows, hashes: Hashes, held: Bool[ndarray, "_"], learnt: Callable[[Row], Iterable[str]]
) -> Hashes:
    """The hashes of rows that are held out and have what no row has that is left."""
    seen = {value for place in np.flatnonzero(~held).tolist() for value in learnt(rows[place])}
    return hashes[[place for place in np.flatnonzero(held).tolist() if not seen.issuperset(learnt(rows[place]))]]


def _last_of_each_tag(rows: Rows, hashes: Hashes) -> Hashes:
    """The largest hash among the sources of every tag, or among all where there are no tags."""
    numbers = {tag: number for number, tag in enumerate(tags_of(rows))}
    largest = np.zeros(max(len(numbers), 1), np.uint64)
    places = np.zeros(len(rows), int)
    if numbers:
        places[:] = [numbers[tag] for tag in rows.texts("tag", len(rows))]
    np.maximum.at(largest, places, hashes)
    return largest


def tags_of(rows: Rows) -> dict[str, None]:
    """Every tag of some rows once, in order."""
    return values_of("tag", rows)


def values_of(role: str, rows: Rows) -> dict[str, None]:
    """Every value of a column once, in order; none where there is no such column."""
    return dict.fromkeys(rows.texts(role, len(rows))) if role in rows.roles else {}


def refuse_new(what: str, values: Iterable[str], known: Collection[str], name: str) -> None:
    """Tags and labels are learnt from training rows alone.

    Raises:
        DataError: there is one that no training row has.
    """
    for value in values:
        if value not in known:
            raise DataError(f"{what} '{value}' was not seen in training", where=name, hint=did_you_mean(value, known))
