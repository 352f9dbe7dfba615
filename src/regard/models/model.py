"""The only model class: an encoder, a decoder and a head behind encode, start and advance."""

from typing import Annotated, Any, Literal

import torch
from jaxtyping import Float
from pydantic import Field, model_validator
from torch import Tensor, nn

from regard.layers.embeddings import TokenEmbedding
from regard.models.heads import Head
from regard.models.parts import Decoded, Decoder, Encoder, Memory, Size, State
from regard.models.recurrent import RecurrentDecoderPart, RecurrentEncoderPart
from regard.models.transformer import TransformerDecoderPart, TransformerEncoderPart, TransformerPart
from regard.padded import Padded
from regard.settings import Settings

EncoderPart = Annotated[TransformerEncoderPart | RecurrentEncoderPart, Field(discriminator="kind")]
DecoderPart = Annotated[TransformerDecoderPart | RecurrentDecoderPart, Field(discriminator="kind")]


SIZES = (
    Size(2e6, 128, 4, 4, 256, 0.3),  # the size that fits Multi30k (Wu et al. 2021, arXiv 2105.14462)
    Size(2e7, 256, 4, 4, 1024, 0.1),
    Size(float("inf"), 512, 6, 8, 2048, 0.1),  # the base size of Vaswani et al. 2017
)


class ModelSettings(Settings):
    """An encoder and a decoder of any kinds; ``kind`` names the one that both are unless said otherwise."""

    kind: Literal["transformer", "rnn"] = "transformer"
    width: int = Field(default=256, ge=2, le=16384)
    dropout: float = Field(default=0.1, ge=0, lt=1)
    encoder: EncoderPart
    decoder: DecoderPart

    @model_validator(mode="before")
    @classmethod
    def _sides_follow_kind(cls, data: Any) -> Any:
        if not isinstance(data, dict):
            return data
        kind = data.get("kind", "transformer")
        sides = {side: data.get(side, {}) for side in ("encoder", "decoder")}
        return data | {
            side: {"kind": kind} | value if isinstance(value, dict) else value for side, value in sides.items()
        }

    @model_validator(mode="after")
    def _heads_divide_width(self) -> "ModelSettings":
        for side, part in (("encoder", self.encoder), ("decoder", self.decoder)):
            if isinstance(part, TransformerPart) and self.width % (2 * part.heads):
                raise ValueError(f"width {self.width} does not split into {part.heads} {side} heads of even width")
        if self.width % 2:
            raise ValueError(f"width {self.width} must be even: each direction gets half")
        return self

    def sized_for(self, tokens: int) -> "ModelSettings":
        """The same kinds at a size that fits so many target tokens of training text."""
        return self._sized(next(size for size in SIZES if tokens < size.tokens))

    def smaller(self) -> "ModelSettings | None":
        """The same kinds at the next smaller size; dropout stays, for less is learnt by heart by a smaller model."""
        below = [size for size in SIZES if size.width < self.width]
        return self._sized(below[-1]).model_copy(update={"dropout": self.dropout}) if below else None

    def _sized(self, size: Size) -> "ModelSettings":
        sides = {"encoder": self.encoder.sized(size), "decoder": self.decoder.sized(size)}
        return self.model_copy(update={"width": size.width, "dropout": size.dropout, **sides})

    def weight_bytes(self, vocabulary: int) -> int:
        """Memory of all weights in fp32; none is taken to find out."""
        with torch.device("meta"):
            sides = nn.ModuleList(part.build(self.width, self.dropout) for part in (self.encoder, self.decoder))
        return 4 * (vocabulary * self.width + sum(weight.numel() for weight in sides.parameters()))

    def describe(self) -> str:
        return f"{self.encoder.describe()} encoder, {self.decoder.describe()} decoder, width {self.width}"


class Model(nn.Module):
    """Encode a source, start a state, advance over tokens. Nothing else needs to know what is inside."""

    def __init__(self, embedding: TokenEmbedding, encoder: Encoder, decoder: Decoder, head: Head):
        super().__init__()
        self.embedding, self.encoder, self.decoder, self.head = embedding, encoder, decoder, head

    def encode(self, source: Padded) -> Memory:
        """All that decoding needs of a source, computed once; leaves (batch, ...)."""
        encoded = self.encoder(Padded(self.embedding(source.values), source.lengths))
        return self.decoder.remember(encoded)

    def start(self, memory: Memory, rows: int, room: int = 0) -> State:
        """The state before the first token of ``rows`` = batch * beams rows; leaves (rows, ...)."""
        return self.decoder.start(memory, rows, room)

    def advance(self, tokens: Padded, memory: Memory, state: State) -> tuple[Decoded, State]:
        """Over one token or many; the state given is consumed."""
        return self.decoder.advance(Padded(self.embedding(tokens.values), tokens.lengths), memory, state)

    def log_probs(self, decoded: Decoded, memory: Memory) -> Float[Tensor, "rows time vocabulary"]:
        return self.head.log_probs(decoded, memory)


def build_model(settings: ModelSettings, embedding: TokenEmbedding, head: Head) -> Model:
    """A model with fresh weights, drawn from torch's global generator."""
    return Model(
        embedding,
        settings.encoder.build(settings.width, settings.dropout),
        settings.decoder.build(settings.width, settings.dropout),
        head,
    )
