"""The only model class: an encoder, a decoder and a head behind encode, start and advance."""

from collections.abc import Callable
from typing import Annotated, Any, Literal, cast

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from regard import trees
from regard.errors import SettingsError
from regard.layers.embeddings import TokenEmbedding
from regard.layers.series import SeriesEmbedding, Window
from regard.models.convolutional import ConvolutionalDecoderPart, ConvolutionalEncoderPart
from regard.models.encoder_only import AlignedDecoderPart, PoolDecoderPart
from regard.models.families import FAMILIES, Family
from regard.models.heads import Head, TextHead
from regard.models.hierarchical import HierarchicalEncoderPart
from regard.models.parts import Decoded, Decoder, Encoded, Encoder, Memory, Part, Size, State, Widths
from regard.models.recurrent import RecurrentDecoderPart
from regard.models.recurrent_encoder import RecurrentEncoderPart
from regard.models.series import FlattenDecoderPart, InvertedEncoderPart, LinearEncoderPart, PatchEncoderPart
from regard.models.transformer import TransformerDecoderPart, TransformerEncoderPart
from regard.padded import Padded
from regard.settings import Settings


class NoEncoder(Part):
    """The decoder reads the source itself, before the first step: decoder-only (Liu et al. 2018, arXiv 1801.10198)."""

    kind: Literal["none"] = "none"

    def build(self, widths: Widths, dropout: float) -> None:
        return None

    def describe(self) -> str:
        return "no"


EncoderPart = Annotated[
    TransformerEncoderPart
    | RecurrentEncoderPart
    | ConvolutionalEncoderPart
    | HierarchicalEncoderPart
    | PatchEncoderPart
    | InvertedEncoderPart
    | LinearEncoderPart
    | NoEncoder,
    Field(discriminator="kind"),
]
DecoderPart = Annotated[
    TransformerDecoderPart
    | RecurrentDecoderPart
    | ConvolutionalDecoderPart
    | PoolDecoderPart
    | AlignedDecoderPart
    | FlattenDecoderPart,
    Field(discriminator="kind"),
]


SIZES = (
    Size(2e6, 128, 4, 4, 256, 0.3),  # the size that fits Multi30k (Wu et al. 2021, arXiv 2105.14462)
    Size(2e7, 256, 4, 4, 1024, 0.1),
    Size(float("inf"), 512, 6, 8, 2048, 0.1),  # the base size of Vaswani et al. 2017
)


class EmbeddingPart(Settings):
    """Tokens as vectors, in and out; widths are the model's unless given."""

    width: int | None = Field(default=None, ge=1, le=16384)
    output: int | None = Field(default=None, ge=1, le=16384, description="of the features that give the scores")
    tied: Literal["all", "sides", "none"] = Field(
        default="all", description="all: source, target and output have one weight; sides: source and target"
    )
    scaled: bool = Field(default=True, description="multiplied by the square root of the width on the way in")

    @model_validator(mode="after")
    def _one_weight_has_one_width(self) -> "EmbeddingPart":
        if self.tied == "all" and self.output not in (None, self.width):
            raise ValueError("one weight for input and output has one width: leave out output, or set tied to sides")
        return self


class ModelSettings(Settings):
    """An encoder and a decoder of any kinds; ``kind`` names the family that both are of unless said otherwise."""

    kind: Family = "transformer"
    width: int = Field(default=256, ge=2, le=16384)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    embedding: EmbeddingPart = EmbeddingPart()
    encoder: EncoderPart
    decoder: DecoderPart

    @model_validator(mode="before")
    @classmethod
    def _parts_follow_family(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        kind = data.get("kind", "transformer")
        family = FAMILIES.get(kind, {}) if isinstance(kind, str) else {}
        sizes = {name: size for name, size in family.items() if not isinstance(size, dict)}
        parts = {name: _completed(data.get(name, {}), part) for name, part in family.items() if name not in sizes}
        return sizes | data | parts

    @model_validator(mode="after")
    def _parts_fit(self) -> "ModelSettings":
        for side, part in (("encoder", self.encoder), ("decoder", self.decoder)):
            try:
                part.check(self.width)
            except ValueError as error:
                raise ValueError(f"{side}: {error}") from None
        if self.decoder.by_variable and not self.encoder.by_variable:
            raise ValueError(
                "decoder: flatten needs an encoder of variables: set encoder.kind to patch, inverted or linear"
            )
        return self

    @property
    def widths(self) -> Widths:
        embedded = self.embedding.width or self.width
        output = self.embedding.output or (embedded if self.embedding.tied == "all" else self.width)
        return Widths(embedded, self.width, output, 0 if self.encoder.kind == "none" else self.width)

    def sized_for(self, tokens: int) -> "ModelSettings":
        """The same kinds at a size that fits so many target tokens of training text; forecasters are small already."""
        if self.encoder.by_variable:
            return self
        return self._sized(next(size for size in SIZES if tokens < size.tokens))

    def smaller(self) -> "ModelSettings | None":
        """The same kinds at the next smaller size; dropout stays, for less is learnt by heart by a smaller model."""
        below = [size for size in SIZES if size.width < self.width and not self.encoder.by_variable]
        return self._sized(below[-1]).model_copy(update={"dropout": self.dropout}) if below else None

    def _sized(self, size: Size) -> "ModelSettings":
        sides = {"encoder": self.encoder.sized(size), "decoder": self.decoder.sized(size)}
        return self.model_copy(update={"width": size.width, "dropout": size.dropout, **sides})

    def describe(self) -> str:
        return f"{self.encoder.describe()} encoder, {self.decoder.describe()} decoder, width {self.width}"


def _completed(given: Any, family: Any) -> Any:
    """A part with what its family says where nothing was given, at every depth, unless another kind was."""
    if not isinstance(given, dict) or not isinstance(family, dict):
        return given
    if given.get("kind", family.get("kind")) != family.get("kind"):
        return given
    return family | {name: _completed(value, family.get(name)) for name, value in given.items()}


class Model(nn.Module):
    """Encode a source, start a state, advance over tokens. Nothing else needs to know what is inside.

    Without an encoder the decoder reads the source, and the state it is left in is the memory.
    """

    def __init__(
        self,
        source_embedding: nn.Module,
        embedding: TokenEmbedding,
        encoder: Encoder | None,
        decoder: Decoder,
        head: Head,
    ):
        super().__init__()
        self.embedding, self.source_embedding = embedding, source_embedding
        self.encoder, self.decoder, self.head = encoder, decoder, head

    @property
    def device(self) -> torch.device:
        return self.embedding.weight.device

    def encode(self, source: Padded) -> Memory:
        """All that decoding needs of a source, computed once; leaves (batch, ...)."""
        embedded = self.source_embedding(source)
        if self.encoder is None:
            _, state = self.decoder.advance(embedded, None, self.decoder.start(None, len(embedded.lengths), 0))
            return Memory(state, self.head.remember(Encoded(source, embedded, embedded)))
        encoded = Encoded(source, embedded, self.encoder(embedded))
        return Memory(self.decoder.remember(encoded), self.head.remember(encoded))

    def start(self, memory: Memory | None, rows: int, room: int = 0) -> State:
        """The state before the first token of ``rows`` = batch * beams rows; leaves (rows, ...).

        Without an encoder there may be no source at all, and no memory.
        """
        if self.encoder is not None or memory is None:
            return self.decoder.start(memory and memory.decoder, rows, room)
        return trees.repeat(memory.decoder, rows // trees.rows_of(memory.decoder))

    def advance(self, tokens: Padded, memory: Memory | None, state: State) -> tuple[Decoded, State]:
        """Over one token or many; the state given is consumed."""
        of_source = memory.decoder if memory and self.encoder is not None else None
        return self.decoder.advance(self.embedding(tokens), of_source, state)

    def log_probs(self, decoded: Decoded, memory: Memory | None) -> Float[Tensor, "rows time vocabulary"]:
        return cast(TextHead, self.head).log_probs(decoded, memory.head if memory else ())


HeadBuilder = Callable[[TokenEmbedding, Widths], Head]
"""A head from the weight that gives a score to every token, and the widths of the model."""


SourceBuilder = Callable[[int], nn.Module]
"""From a width to an embedding of sources that are no tokens: padded values in, padded features of that width out."""


def build_model(
    settings: ModelSettings, vocabulary: int, head: HeadBuilder, source_builder: SourceBuilder | None = None
) -> Model:
    """A model with fresh weights, drawn from torch's global generator."""
    widths, tied, scaled = settings.widths, settings.embedding.tied, settings.embedding.scaled
    read = source_builder(widths.embedded) if source_builder else None
    if isinstance(read, SeriesEmbedding):
        widths = _of_window(settings, read.window)
    tokens = TokenEmbedding(vocabulary, widths.embedded, scaled)
    source = read or tokens
    target = tokens if source_builder or tied != "none" else TokenEmbedding(vocabulary, widths.embedded, scaled)
    output = target if tied == "all" else TokenEmbedding(vocabulary, widths.output)
    built_head = head(output, widths)
    encoder = _built("encoder", settings.encoder, widths, settings.dropout)
    return Model(source, target, encoder, _built("decoder", settings.decoder, widths, settings.dropout), built_head)


def _of_window(settings: ModelSettings, window: Window) -> Widths:
    """Steps of a series have as many features as it has variables; a decoder that flattens gives the answer itself."""
    output = 0 if settings.decoder.by_variable else settings.widths.output
    widths = settings.widths._replace(embedded=window.variables, output=output, window=window)
    return widths._replace(memory=settings.encoder.memory(widths))


def _built(side: str, part: Any, widths: Widths, dropout: float) -> Any:
    try:
        return part.build(widths, dropout)
    except SettingsError as error:
        raise SettingsError(error.message, where=error.where or f"model.{side}", hint=error.hint) from None


def count_weights(
    settings: ModelSettings, vocabulary: int, head: HeadBuilder, source_builder: SourceBuilder | None = None
) -> int:
    """How many numbers are learned; no memory is taken to find out."""
    with torch.device("meta"):
        model = build_model(settings, vocabulary, head, source_builder)
    return sum(weight.numel() for weight in model.parameters())
