"""Small models put together by hand, and the plain loop that they learn by."""

from collections.abc import Callable

import torch

from regard.layers.embeddings import TokenEmbedding
from regard.models.heads import TokenHead
from regard.models.model import HeadBuilder, Model
from regard.models.parts import Decoded, Memory, Widths
from regard.padded import Padded
from regard.tasks.generate import shift_right

WIDTHS = Widths(12, 12, 10, 12)
VOCABULARY = 13


def model_of(
    encoder,
    decoder,
    head: HeadBuilder = lambda output, _: TokenHead(output),
    widths: Widths = WIDTHS,
    vocabulary: int = VOCABULARY,
    dropout: float = 0.0,
) -> Model:
    """Weights follow the seed that the test has set."""
    embedding, output = TokenEmbedding(vocabulary, widths.embedded), TokenEmbedding(vocabulary, widths.output)
    built = encoder.build(widths, dropout), decoder.build(widths, dropout)
    return Model(embedding, embedding, *built, head(output, widths))


def forced(model: Model, source: Padded, target: Padded) -> tuple[Memory, Decoded]:
    """The target read one step late (teacher forcing)."""
    memory = model.encode(source)
    return memory, model.advance(shift_right(target), memory, model.start(memory, len(target.lengths)))[0]


def learn(model: Model, examples: Callable[[], tuple[Padded, Padded]], steps: int, rate: float = 5e-3) -> Model:
    optimiser = torch.optim.Adam(model.parameters(), rate)
    for _ in range(steps):
        source, target = examples()
        memory, decoded = forced(model.train(), source, target)
        loss = model.head.loss(decoded, target, memory.head)
        optimiser.zero_grad()
        (loss.total / loss.count).backward()
        optimiser.step()
    return model.eval()


@torch.no_grad()
def answers(model: Model, source: Padded, target: Padded) -> torch.Tensor:
    """The likeliest token of each step, the true ones before it given."""
    memory, decoded = forced(model, source, target)
    return model.log_probs(decoded, memory).argmax(-1)


def whole(values: torch.Tensor, segments: torch.Tensor | None = None) -> Padded:
    """Rows that are all of one length."""
    return Padded(values, torch.full((len(values),), values.shape[1]), segments)


def with_garbage(padded: Padded, more: int = 2) -> Padded:
    """The same rows in a wider tensor, anything at all in the padding."""
    values, _, segments = padded

    def wider(steps: torch.Tensor) -> torch.Tensor:
        new = torch.randint(1, 9, (len(steps), steps.shape[1] + more))
        new[:, : steps.shape[1]][padded.mask] = steps[padded.mask]
        return new

    return Padded(wider(values), padded.lengths, None if segments is None else wider(segments))
