"""Training speed on the reference job, side by side: ours, transformers' Marian architecture and nn.Transformer.

Multi30k English to German, 4 + 4 layers, width 256, 4 heads, feed-forward 1024, tied embeddings, dropout 0.1 (attention
too), label smoothing 0.1, AdamW with clipping at norm 1, batches of 2,048 tokens a side; every contender sees the same
batches of the same joint vocabulary and does all of an update, in a process of its own. They take turns within a round;
medians over rounds are printed, in real target tokens per second, and as a ratio to the fastest of transformers.

    python benchmarks/training.py --data DIR [--rounds 7]
"""

import argparse
from collections.abc import Callable
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from side_by_side import CPU, Contender, compare_apart, describe_machine, training_step
from torch import Tensor, nn

from regard.attention import sinusoidal
from regard.data.batching import Batching, epoch_batches
from regard.data.tokenisers import PAD
from regard.memory import keep_freed_memory
from regard.models.model import ModelSettings
from regard.padded import Padded
from regard.recipes.multi30k import transformer
from regard.runner import learn_task
from regard.tasks.encoded import encode
from regard.tasks.generate import Generate, shift_right
from regard.tasks.task import Batch
from regard.training.objective import build_objective
from regard.training.precision import autocast

WIDTH, LAYERS, HEADS, FEEDFORWARD, DROPOUT, SMOOTHING = 256, 4, 4, 1024, 0.1, 0.1
BATCHES = 4
PEER, KEEPING = "transformers Marian", ", freed memory kept"
IGNORED = -100


def ours(task: Generate, batches: list[Batch], precision: str) -> Contender:
    side = {"layers": LAYERS, "heads": HEADS, "feedforward": FEEDFORWARD, "attention_dropout": DROPOUT}
    model = {"kind": "transformer", "width": WIDTH, "dropout": DROPOUT, "encoder": side, "decoder": side}
    return training_step(build_objective(task, ModelSettings.model_validate(model), seed=1), batches, precision)


def theirs(model: nn.Module, losses: Callable[[Batch], Tensor], batches: list[Batch], precision: str) -> Contender:
    """The plain loop that everyone writes."""
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-6, betas=(0.9, 0.98), fused=True)
    model.train()

    def step() -> int:
        tokens = 0
        for batch in batches:
            with autocast(precision, CPU):
                loss = losses(batch)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
            tokens += int(batch.target.lengths.sum())
        return tokens

    return step


def marian(vocabulary: int, batches: list[Batch], precision: str) -> Contender:
    """transformers' MarianMTModel with its default attention; its own loss cannot smooth labels."""
    from transformers import MarianConfig, MarianMTModel

    side = {
        f"{name}_{what}": value
        for name in ("encoder", "decoder")
        for what, value in {"layers": LAYERS, "attention_heads": HEADS, "ffn_dim": FEEDFORWARD}.items()
    }
    config = MarianConfig(
        vocab_size=vocabulary,
        d_model=WIDTH,
        dropout=DROPOUT,
        attention_dropout=DROPOUT,
        activation_dropout=DROPOUT,
        activation_function="relu",
        pad_token_id=PAD,
        decoder_start_token_id=PAD,
        use_cache=False,
        **side,
    )
    model = MarianMTModel(config)

    def losses(batch: Batch) -> Tensor:
        logits = model(
            input_ids=batch.source.values,
            attention_mask=batch.source.mask,
            decoder_input_ids=shift_right(batch.target).values,
        ).logits
        return smoothed(logits, batch.target)

    return theirs(model, losses, batches, precision)


class Plain(nn.Module):
    """nn.Transformer with what it leaves to its user."""

    def __init__(self, vocabulary: int):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, WIDTH)
        self.transformer = nn.Transformer(WIDTH, HEADS, LAYERS, LAYERS, FEEDFORWARD, DROPOUT, batch_first=True)
        self.dropout = nn.Dropout(DROPOUT)

    def forward(self, batch: Batch) -> Tensor:
        target = shift_right(batch.target)
        causal = nn.Transformer.generate_square_subsequent_mask(target.values.shape[1])
        decoded = self.transformer(
            self.embedded(batch.source),
            self.embedded(target),
            tgt_mask=causal,
            src_key_padding_mask=~batch.source.mask,
            memory_key_padding_mask=~batch.source.mask,
            tgt_is_causal=True,
        )
        return decoded @ self.embedding.weight.T

    def embedded(self, tokens: Padded) -> Tensor:
        positions = sinusoidal(torch.arange(tokens.values.shape[1])[None], WIDTH)
        return self.dropout(self.embedding(tokens.values) * WIDTH**0.5 + positions)


def plain(vocabulary: int, batches: list[Batch], precision: str) -> Contender:
    model = Plain(vocabulary)
    return theirs(model, lambda batch: smoothed(model(batch), batch.target), batches, precision)


def smoothed(logits: Tensor, target: Padded) -> Tensor:
    labels = target.values.masked_fill(~target.mask, IGNORED)
    return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), label_smoothing=SMOOTHING)


def build(contender: str, precision: str, data: Path) -> Contender:
    """A contender on the first batches of the first epoch."""
    recipe = transformer("en-de", tokenised=False, data=data)
    corpus = recipe.data.load()
    task = learn_task(recipe, corpus)
    examples = encode(task, corpus.train)
    rows = islice(epoch_batches(examples.lengths, Batching(tokens=2048), seed=1, epoch=0), BATCHES)
    batches = [examples.batch(one) for one in rows]
    if contender == "regard" or contender.endswith(KEEPING):
        keep_freed_memory()  # `regard train` does so
    if contender == "regard":
        return ours(task, batches, precision)
    model = marian if contender.startswith(PEER) else plain
    return model(task.vocabulary, batches, precision)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    describe_machine()
    builders = {
        f"{name}, {precision}": partial(build, name, precision, options.data)
        for precision in ("fp32", "bf16")
        for name in ("regard", PEER, PEER + KEEPING, "nn.Transformer")
    }
    rates = compare_apart(builders, options.rounds)
    best = max(rate for name, rate in rates.items() if name.startswith(PEER) and KEEPING not in name)
    for name, rate in rates.items():
        print(f"{name:50} {rate:8,.0f} target tokens/s  {rate / best:5.2f} x the best of transformers")


if __name__ == "__main__":
    main()
