"""Answers that are written token by token, as a search finds them."""

from regard.data.fields import TextField
from regard.data.tokenisers import END, PAD, START, UNKNOWN
from regard.decoding.interface import Decodable, Hypothesis, Tokens
from regard.decoding.search import Search, search
from regard.padded import Padded
from regard.tasks.task import Prediction
from regard.trees import Nest

ENDS = Tokens(START, END)
NEVER_WRITTEN = (PAD, UNKNOWN, START)


def write(
    field: TextField, model: Decodable, memory: Nest, source: Padded, settings: Search, prefix: Padded | None
) -> list[Prediction]:
    """An answer to every row of the source, which the memory is of."""
    found = search(model, memory, source.lengths, settings, ENDS, NEVER_WRITTEN, prefix, source)
    return [Prediction.best_of(_prediction(field, one) for one in row) for row in found]


def _prediction(field: TextField, found: Hypothesis) -> Prediction:
    ids = tuple(found.tokens)
    return Prediction(field.decode(ids), found.score, ids, tuple(field.steps(ids)))
