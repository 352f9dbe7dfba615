"""Between their config.json and our settings, by the tables of an architecture."""

import json
import reprlib
from collections.abc import Iterator
from functools import reduce
from pathlib import Path
from typing import Any, Literal, cast

from regard import settings as plain
from regard.errors import InputError, did_you_mean
from regard.export.architecture import AS_IT_IS, Architecture, Config
from regard.export.decoder_only import GPT2, LLAMA
from regard.export.encoder_decoders import BART, MARIAN, T5, T5_1_1
from regard.models.model import ModelSettings

Name = Literal["marian", "bart", "t5", "t5_1_1", "gpt2", "llama"]

ARCHITECTURES: dict[Name, Architecture] = {
    "marian": MARIAN,
    "bart": BART,
    "t5": T5,
    "t5_1_1": T5_1_1,
    "gpt2": GPT2,
    "llama": LLAMA,
}

CONFIG = "config.json"

LARGEST = 1 << 24
"""No size, not even of a vocabulary, is greater."""
MOST_TEXT = 1 << 24
"""Bytes that are read of a file of JSON."""

IN_TRAINING_ONLY = {"dropout", "attention_dropout", "layer_drop"}
"""Settings that no prediction depends on, and not every architecture knows."""


def read_json(path: Path) -> dict[str, Any]:
    """What a file of JSON holds.

    Raises:
        InputError: it is missing, too large, or not an object of JSON.
    """
    try:
        if path.stat().st_size > MOST_TEXT:
            raise InputError(f"larger than {MOST_TEXT:,} bytes", where=str(path))
        found = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InputError(f"cannot be read: {error.strerror}", where=str(path), hint="is the path right?") from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise InputError("not an object of JSON", where=str(path))
    return found


def architecture_of(config: Config) -> Name:
    """The architecture that a config.json names.

    Raises:
        InputError: it is none of ours.
    """
    kind = str(config.get("model_type"))
    known = {architecture.kind for architecture in ARCHITECTURES.values()}
    if kind not in known:
        raise InputError(f"model_type {reprlib.repr(kind)} is not known", where=CONFIG, hint=did_you_mean(kind, known))
    scaled = config.get("scale_decoder_outputs", config.get("tie_word_embeddings", True))
    return "t5_1_1" if kind == "t5" and scaled is False else cast(Name, kind)


def settings_of(config: Config) -> ModelSettings:
    """Our settings for a model whose config.json holds ``config``.

    Raises:
        InputError: something in it has no counterpart in regard; it is named.
    """
    architecture = ARCHITECTURES[architecture_of(config)]
    whole = _whole(config, architecture)
    data = json.loads(json.dumps(architecture.settings))  # a copy whose sides share nothing
    placed: dict[str, str] = {}
    for key, paths in architecture.keys.items():
        value = _read(key, whole[key], architecture)
        for path in paths.split():
            first = placed.setdefault(path, key)
            if whole[first] != whole[key]:
                raise InputError(f"{first} and {key} differ, which are one setting in regard", where=CONFIG)
            _place(data, path, value)
    return plain.parse(ModelSettings, data, CONFIG)


def config_of(settings: ModelSettings, name: Name, vocabulary: int) -> Config:
    """What config.json says of a model with these settings.

    Raises:
        InputError: they are not those of such an architecture; the first that differs is named.
    """
    architecture, ours = ARCHITECTURES[name], explicit(settings)
    config: Config = {"architectures": [architecture.model], "model_type": architecture.kind, "vocab_size": vocabulary}
    for key, paths in architecture.keys.items():
        path = paths.split()[0]
        try:
            config[key] = architecture.values.get(key, AS_IT_IS).write(_at(ours, path))
        except (LookupError, TypeError):
            raise InputError(f"{name} has nothing like the model's {path}", where="model") from None
    config |= architecture.written
    _refuse_difference(ours, explicit(settings_of(config)), name)
    return config


def _whole(config: Config, architecture: Architecture) -> Config:
    """With all that their class adds to it, and nothing that cannot be ours."""
    try:
        whole = architecture.defaults | architecture.completed(config)
    except (TypeError, ValueError):
        raise InputError("a value of the wrong type", where=CONFIG) from None
    missing = [key for key in ("vocab_size", *architecture.keys) if key not in whole]
    if missing:
        raise InputError(f"not given: {', '.join(missing[:4])}", where=CONFIG)
    sizes = {key: whole[key] for key in ("vocab_size", *architecture.keys) if isinstance(whole[key], int)}
    unfit = [key for key, size in sizes.items() if not 0 <= size <= LARGEST]
    if unfit or type(whole["vocab_size"]) is not int or not whole["vocab_size"]:
        key = next(iter(unfit), "vocab_size")
        raise InputError(f"{key} {reprlib.repr(whole[key])} is no size", where=CONFIG)
    for key, required in architecture.required.items():
        if whole.get(key, required) != required:
            found = reprlib.repr(whole[key])
            raise InputError(f"{key} {found} has no counterpart in regard, only {required!r}", where=CONFIG)
    return whole


def _read(key: str, value: Any, architecture: Architecture) -> Any:
    try:
        return architecture.values.get(key, AS_IT_IS).read(value)
    except (LookupError, TypeError, AttributeError, ValueError):
        raise InputError(f"{key} {reprlib.repr(value)} has no counterpart in regard", where=CONFIG) from None


def _place(data: dict[str, Any], path: str, value: Any) -> None:
    *parents, last = path.split(".")
    for name in parents:
        data = data.setdefault(name, {})
    data[last] = value


def _at(data: Any, path: str) -> Any:
    return reduce(lambda node, name: node[name], path.split("."), data)


def explicit(settings: ModelSettings) -> dict[str, Any]:
    """Settings as plain data with every width in numbers, without what only training knows."""
    data = settings.model_dump(mode="json", exclude={"kind"})
    data["embedding"] |= {"width": settings.widths.embedded, "output": settings.widths.output}
    for side in (data["encoder"], data["decoder"]):
        for attention in ("attention", "cross_attention"):
            layout = (side.get(attention) or {}).get("layout", {})
            if layout.get("kind") == "grouped":
                layout["kv_heads"] = layout["kv_heads"] or side["heads"]
                layout["head_width"] = layout["head_width"] or settings.width // side["heads"]
    return data


def _refuse_difference(ours: dict[str, Any], theirs: dict[str, Any], name: Name) -> None:
    found, wanted = dict(_leaves(ours)), dict(_leaves(theirs))
    differs = [path for path in wanted.keys() | found.keys() if found.get(path) != wanted.get(path)]
    if differs:
        path = min(differs)
        told = f"{path} is {found.get(path)!r}, and in {name} {wanted.get(path)!r}"
        raise InputError(f"not a model that {name} can represent: {told}", where="model")


def _leaves(data: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in data.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{path}{name}.")
        elif name not in IN_TRAINING_ONLY:
            yield f"{path}{name}", value
