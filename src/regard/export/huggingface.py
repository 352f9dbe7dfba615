"""Checkpoints in the form of Hugging Face's transformers: a folder with config.json and model.safetensors.

Only JSON and safetensors are read, and nothing in them is executed. docs/checkpoints.md says what is exact.
"""

import json
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import save as as_safetensors

from regard.errors import InputError
from regard.export.architecture import Config
from regard.export.configuration import ARCHITECTURES, Name, architecture_of, config_of, read_json, settings_of
from regard.export.correspondence import counterparts, fill, in_their_form, refuse_misfits
from regard.export.tensors import WHOLE, Stored, stored_tensors
from regard.files import write_whole
from regard.layers.embeddings import TokenEmbedding
from regard.models.heads import TokenHead
from regard.models.model import Model, ModelSettings, build_model
from regard.models.parts import Widths

ENDS = ("eos_token_id", "pad_token_id")


class SpecialTokens(NamedTuple):
    """The ids that begin an answer or a text, end it, and fill it up; None: the checkpoint does not say."""

    start: int | None = None
    end: int | None = None
    padding: int | None = None


class Checkpoint(NamedTuple):
    """A model and what a folder says of it; its output is a `TokenHead`."""

    model: Model
    settings: ModelSettings
    architecture: Name
    tokens: SpecialTokens = SpecialTokens()

    @property
    def vocabulary(self) -> int:
        """How many tokens there are."""
        return len(self.model.embedding.weight)


def load(folder: Path | str) -> Checkpoint:
    """The model in a folder of config.json and model.safetensors, whole or in shards, with weights in fp32.

    It is in evaluation mode. Nothing large is allocated before every tensor is known to fit.

    Raises:
        InputError: the architecture or something in it is not known, or tensors are missing, foreign or do not fit.
    """
    folder = Path(folder)
    config = read_json(folder / "config.json")
    name, settings = architecture_of(config), settings_of(config)
    architecture = ARCHITECTURES[name]
    stored = _with_prefix(stored_tensors(folder), architecture.prefix)
    bias = "final_logits_bias" in stored and "head.bias" in architecture.weights
    with torch.device("meta"):
        weights = dict(_build(settings, config["vocab_size"], bias).named_parameters())
    found = counterparts(weights, architecture, settings)
    refuse_misfits(in_their_form(weights, found), stored, architecture)
    model = _build(settings, config["vocab_size"], bias)
    fill(dict(model.named_parameters()), found, stored, architecture)
    return Checkpoint(model.eval(), settings, name, _special(config))


def save(checkpoint: Checkpoint, folder: Path | str) -> None:
    """Write config.json and model.safetensors, which transformers and `load` read; other files are left alone.

    Raises:
        InputError: the model is not one that the architecture can represent; the first difference is named.
        OSError: it names the file; an old one is as it was.
    """
    model, settings, name, tokens = checkpoint
    folder, architecture = Path(folder), ARCHITECTURES[name]
    config = config_of(settings, name, checkpoint.vocabulary) | _said_of(tokens, settings.encoder.kind == "none")
    weights = {name: weight.detach().float() for name, weight in model.named_parameters()}
    written = in_their_form(weights, counterparts(weights, architecture, settings))
    folder.mkdir(parents=True, exist_ok=True)
    content = {name: tensor.contiguous() for name, tensor in written.items()}
    write_whole(folder / WHOLE, as_safetensors(content, metadata={"format": "pt"}))
    write_whole(folder / "config.json", json.dumps(config, indent=2).encode())


def _build(settings: ModelSettings, vocabulary: int, bias: bool) -> Model:
    def head(output: TokenEmbedding, widths: Widths) -> TokenHead:
        return TokenHead(output, bias=bias)

    try:
        return build_model(settings, vocabulary, head)
    except RuntimeError as error:
        raise InputError(f"sizes that no machine can hold: {error}", where="config.json") from None


def _with_prefix(stored: dict[str, Stored], prefix: str) -> dict[str, Stored]:
    if any(name.startswith(prefix) for name in stored):
        return stored
    return {prefix + name: one for name, one in stored.items()}


def _special(config: Config) -> SpecialTokens:
    start = config.get("decoder_start_token_id")
    start = config.get("bos_token_id") if start is None else start
    return SpecialTokens(*(one if isinstance(one, int) else None for one in (start, *map(config.get, ENDS))))


def _said_of(tokens: SpecialTokens, decoder_only: bool) -> Config:
    start = {"bos_token_id" if decoder_only else "decoder_start_token_id": tokens.start}
    return (start if tokens.start is not None else {}) | dict(zip(ENDS, tokens[1:], strict=True))
