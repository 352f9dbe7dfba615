"""Long passages: in parts that overlap by half, each with the question before it."""

from typing import NamedTuple

from regard.data.tokenisers import END
from regard.padded import Padded, pad
from regard.tasks.task import Batch


class Window(NamedTuple):
    """A question with a part of its passage, and how many pieces of the passage stand before that part."""

    ids: list[int]
    offset: int

    @property
    def steps(self) -> range:
        """The steps of the whole source that the part is of; step i of the window is step ``i + offset``."""
        first = self.ids.index(END) + 1
        return range(first + self.offset, len(self.ids) - 1 + self.offset)


class Windows(NamedTuple):
    """Windows as rows, the source that each is of, and its offset."""

    source: Padded
    owners: list[int]
    offsets: list[int]


def windows_of(ids: list[int], most: int) -> list[Window]:
    """Parts of at most about so many pieces; every span of half a part is whole in one of them."""
    if len(ids) <= most:
        return [Window(ids, 0)]
    question = ids[: ids.index(END) + 1]
    passage = ids[len(question) : -1]
    room = max(most - len(question) - 1, most // 2)
    starts = range(0, max(len(passage) - room, 0) + room // 2, room // 2)
    return [Window([*question, *passage[start : start + room], END], start) for start in starts]


def cut(source: Padded, most: int) -> Windows:
    """All windows of all rows."""
    if source.values.shape[1] <= most:
        rows = len(source.lengths)
        return Windows(source, [*range(rows)], [0] * rows)
    found = [(row, window) for row, ids in enumerate(source.rows()) for window in windows_of(ids, most)]
    parts = pad([window.ids for _, window in found]).to(source.values.device)
    return Windows(parts, [row for row, _ in found], [window.offset for _, window in found])


def cut_to_answer(batch: Batch, most: int) -> Batch:
    """For each row the window with the most of its spans; a target holds the first and the last step of each in turn.

    Spans are cut to the window, those outside are left out. Of equal windows the one around the first span is taken.
    """
    if batch.source.values.shape[1] <= most:
        return batch
    rows = zip(batch.source.rows(), batch.target.rows(), strict=True)
    chosen = [_around(windows_of(ids, most), [*zip(target[::2], target[1::2], strict=True)]) for ids, target in rows]
    sides = pad([window.ids for window, _ in chosen]), pad([target for _, target in chosen])
    return Batch(*sides).to(batch.source.values.device)


def _around(windows: list[Window], spans: list[tuple[int, int]]) -> tuple[Window, list[int]]:
    """The window to learn from, and the spans in it."""

    def fit(window: Window) -> tuple[int, int]:
        inside = sum(last - first + 1 for first, last in _inside(window, spans))
        return inside, -abs(sum(spans[0]) - sum((window.steps[0], window.steps[-1])))

    best = max(windows, key=fit)
    return best, [step - best.offset for span in _inside(best, spans) for step in span]


def _inside(window: Window, spans: list[tuple[int, int]]) -> list[tuple[int, int]]:
    clipped = ((max(first, window.steps[0]), min(last, window.steps[-1])) for first, last in spans)
    return [(first, last) for first, last in clipped if first <= last]
