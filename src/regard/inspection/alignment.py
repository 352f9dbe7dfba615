"""Attention maps as values: attention from word to word, and the alignment read off it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from regard.errors import InputError, did_you_mean
from regard.inspection.backdrop import Backdrop
from regard.inspection.page import attention_page
from regard.inspection.plotting import plotting
from regard.pieces import Word, is_special, merge_words

AVERAGE = "cross/average"
LOOKING = "/cross", "/copy", "/pool"
AT_SOURCE = *LOOKING, "/alignment", "/pointer"
START = "<s>"

_FONTS = ("Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", "Noto Sans Arabic", "Noto Sans Thai")
_THOUSAND = 1000


def _membership(words: Sequence[Word], pieces: int) -> Float[Tensor, "words pieces"]:
    """1 where a piece belongs to a word."""
    belongs = torch.zeros(len(words), pieces)
    for row, word in enumerate(words):
        belongs[row, list(word.pieces)] = 1
    return belongs


def on_axes(maps: Mapping[str, Tensor], source: int, target: int) -> dict[str, Tensor]:
    """Maps of one row, (heads, queries, keys) by name, as maps over the steps of its source and of its target.

    A decoder that read the source itself, before the target, has its maps named as if an encoder had read it. Learned
    queries that pool the source look alike at every step. What lies between other things, such as sentences, is left
    out.
    """
    found: dict[str, Tensor] = {}
    for name, weights in maps.items():
        if target and weights.shape[-1] == source + target:
            found |= _as_if_encoded(name, weights, source)
        else:
            found[name] = weights.transpose(0, 1).expand(-1, target, -1) if name.endswith("/pool") else weights
    steps = {"source": source, "target": target, "written": target}
    return {
        name: weights
        for name, weights in found.items()
        if weights.numel() and weights.shape[1:] == tuple(steps[side] for side in _sides(name))
    }


def _as_if_encoded(name: str, weights: Tensor, source: int) -> dict[str, Tensor]:
    layer = name.removeprefix("decoder/").removesuffix("/self")
    return {
        f"encoder/{layer}/self": weights[:, :source, :source],
        f"decoder/{layer}/cross": weights[:, source:, :source],
        f"decoder/{layer}/self": weights[:, source:, source:],
    }


@dataclass(frozen=True)
class AttentionMaps:
    """What a model looked at while it read one source and wrote one target; made by `AttentionMaps.of`.

    ``maps`` holds (heads, queries, keys) by name. Row i of a decoder's map belongs to the step that wrote
    ``target[i]``; the keys of its self-attention are what it had read by then: "<s>", then the target one step late.
    """

    source: tuple[str, ...]
    target: tuple[str, ...]
    maps: dict[str, Tensor]
    backdrop: Backdrop | None = None

    @classmethod
    def of(
        cls,
        source: Sequence[str],
        target: Sequence[str],
        maps: Mapping[str, Tensor],
        backdrop: Backdrop | None = None,
    ) -> "AttentionMaps":
        """Maps by name, such as ``decoder/0/cross``, ``head/copy``, ``decoder/0/self`` or ``encoder/0/self``.

        The mean over all layers and heads of what looks from the target at the source, (1, target, source), is added as
        ``cross/average`` if there is any; where a map says when each answer was written, as of speech, it is that map.

        Args:
            source: pieces as sentencepiece writes them, control tokens and end included.
            target: the same, ending in "</s>".
            backdrop: what the source steps are places of.

        Raises:
            InputError: a map's shape is not (heads, queries, keys) of these pieces.
        """
        kept = {name: weights.detach().float().cpu() for name, weights in maps.items()}
        made = cls(tuple(source), tuple(target), kept, backdrop)
        for name, weights in kept.items():
            made._check(name, weights)
        averaged = _averaged(kept)
        average = {AVERAGE: torch.cat(averaged).mean(0, keepdim=True)} if averaged else {}
        return replace(made, maps=kept | average)

    @property
    def words(self) -> dict[str, list[Word]]:
        """Words of the "source" and of the "target"."""
        return {side: merge_words(self._pieces(side)) for side in ("source", "target")}

    def word_map(self, name: str) -> Float[Tensor, "heads queries keys"]:
        """Attention from word to word: the sum over a key word's pieces, the mean over a query word's; rows sum to 1.

        Raises:
            InputError: there is no such map.
        """
        weights = self._map(name)
        queries, keys = (_membership(merge_words(pieces), len(pieces)) for pieces in map(self._pieces, _sides(name)))
        return (queries / queries.sum(1, keepdim=True)) @ weights @ keys.T

    def alignment(self) -> list[tuple[str, str]]:
        """(source word, target word) pairs: for every target word the source word looked at most on average.

        Special tokens are left out, unless the source has nothing else.
        """
        if AVERAGE not in self.maps or not self.source:
            return []
        sources, targets = self.words["source"], self.words["target"]
        content = [place for place, word in enumerate(sources) if not is_special(word, self.source)]
        candidates = content or list(range(len(sources)))
        best = self.word_map(AVERAGE)[0][:, candidates].argmax(-1).tolist()
        return [
            (sources[candidates[place]].text, word.text)
            for place, word in zip(best, targets, strict=True)
            if not is_special(word, self.target)
        ]

    def to_json(self) -> dict[str, Any]:
        """What ``regard inspect --json`` prints: words as [text, places of pieces], weights to 4 decimals."""
        return {
            "source": list(self.source),
            "target": list(self.target),
            "words": {side: [[word.text, list(word.pieces)] for word in words] for side, words in self.words.items()},
            "maps": {name: weights.double().round(decimals=4).tolist() for name, weights in self.maps.items()},
            "alignment": [list(pair) for pair in self.alignment()],
        }

    def view(self) -> dict[str, Any]:
        """What the attention page draws, weights in thousandths; no average of one head."""
        alone = sum(map(len, _averaged(self.maps))) == 1
        return {
            "sides": {side: self._side(side) for side in ("source", "target", "written")},
            "maps": [self._drawn(name) for name in self.maps if not (alone and name == AVERAGE)],
            "backdrop": self.backdrop and self.backdrop.view(),
        }

    def to_html(self, title: str = "What the model looked at") -> str:
        """One page that needs nothing but a browser."""
        return attention_page([self], title)

    def plot(self) -> Any:
        """A matplotlib figure of the average cross-attention, word by word.

        Raises:
            InputError: there is no cross-attention, or matplotlib is not installed.
        """
        weights = self.word_map(AVERAGE)[0]
        sources, targets = ([word.text for word in self.words[side]] for side in ("source", "target"))
        matplotlib = plotting()
        installed = set(matplotlib.font_manager.get_font_names())
        fonts = ["DejaVu Sans", *(name for name in _FONTS if name in installed)]
        inches = 2 + 0.4 * len(sources), 2 + 0.3 * len(targets)
        figure = matplotlib.figure.Figure(figsize=inches, layout="constrained")
        axes = figure.add_subplot(xlabel="source", ylabel="target")
        axes.imshow(weights.numpy(), cmap="Blues", vmin=0, aspect="auto")
        axes.set_xticks(range(len(sources)), sources, rotation=90, fontfamily=fonts)
        axes.set_yticks(range(len(targets)), targets, fontfamily=fonts)
        return figure

    def _pieces(self, side: str) -> tuple[str, ...]:
        written = (START, *self.target)[: len(self.target)]
        return {"source": self.source, "target": self.target, "written": written}[side]

    def _map(self, name: str) -> Tensor:
        if name not in self.maps:
            raise InputError(f"no attention map '{name}'", hint=did_you_mean(name, self.maps))
        return self.maps[name]

    def _check(self, name: str, weights: Tensor) -> None:
        expected = tuple(len(self._pieces(side)) for side in _sides(name))
        if weights.ndim != 3 or weights.shape[1:] != expected:
            raise InputError(
                f"attention map '{name}' is {tuple(weights.shape)}, not (heads, {expected[0]}, {expected[1]})",
                hint="queries and keys follow the pieces; a decoder's queries are the target's",
            )

    def _side(self, side: str) -> dict[str, Any]:
        pieces = self._pieces(side)
        words = merge_words(pieces)
        return {
            "pieces": pieces,
            "words": [
                {"text": word.text, "pieces": word.pieces, "special": is_special(word, pieces)} for word in words
            ],
        }

    def _drawn(self, name: str) -> dict[str, Any]:
        queries, keys = _sides(name)
        heads = (self.maps[name] * _THOUSAND).round().int().tolist()
        return {"name": name, "queries": queries, "keys": keys, "heads": heads}


def _averaged(maps: Mapping[str, Tensor]) -> list[Tensor]:
    def ending(*ends: str) -> list[Tensor]:
        return [weights for name, weights in maps.items() if name.endswith(ends)]

    return ending("/alignment") or ending(*LOOKING)


def _sides(name: str) -> tuple[str, str]:
    """What a map's queries and keys are steps of: "source", "target", or what was "written" before each target step."""
    if name.startswith("encoder/"):
        return "source", "source"
    return "target", "source" if name == AVERAGE or name.endswith(AT_SOURCE) else "written"
