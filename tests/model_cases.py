"""Settings of models that the contracts of test_models.py are held against; of every kind in the unions."""

from collections.abc import Iterator
from itertools import product
from typing import Any, Literal, get_args, get_origin

import pytest
from pydantic.fields import FieldInfo

from convolutional_cases import CONVOLUTIONAL
from recurrent_cases import RECURRENT
from regard.models.model import ModelSettings

Part = dict[str, Any]

# a new number in the settings of a part is told its size here
TINY = {"layers": 2, "heads": 2, "feedforward": 12, "kernel": 5}


def parts_of(side: str) -> dict[str, Any]:
    """The settings classes of a side's union by kind; those that read windows of series have contracts of their own."""
    parts = get_args(ModelSettings.model_fields[side].annotation)
    return {part.model_fields["kind"].default: part for part in parts if not part.by_variable}


def tiny(kind: str, side: str, **more: Any) -> Part:
    fields = parts_of(side)[kind].model_fields
    return {"kind": kind} | {name: size for name, size in TINY.items() if name in fields} | more


def choices(field: FieldInfo) -> list[Any]:
    """What a named choice or a switch can be beside its default."""
    if field.annotation is bool:
        return [not field.default]
    values = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    return [value for value in values if value != field.default]


def chosen(side: str) -> Iterator[tuple[str, Part]]:
    """Every named choice of every kind of part, one at a time."""
    for kind, part in parts_of(side).items():
        for name, field in part.model_fields.items():
            yield from (
                (f"{kind}-{side}-{name}={value}", tiny(kind, side, **{name: value})) for value in choices(field)
            )


def of(kind: str, **more: Any) -> Part:
    return {"kind": kind, **more}


WINDOW, BLOCKS = of("window", back=2), of("any", of=[of("blocked", size=3), of("global", count=1)])
LOOKING = [  # settings of a Transformer's encoder and decoder, by the field they are in
    {
        "positions": of("rotary"),
        "attention": {"where": WINDOW, "norm": of("entmax"), "layout": of("grouped", kv_heads=1)},
    },
    {"positions": of("none"), "attention": {"score": of("transformer_xl"), "norm": of("sink"), "where": BLOCKS}},
    {"positions": of("none"), "attention": {"score": of("transformer_xl"), "where": WINDOW}},
    {"positions": of("t5_bias"), "attention": {"score": of("cosine"), "norm": of("talking_heads")}},
    {"positions": of("sum", of=[of("rotary"), of("alibi")]), "attention": {"layout": of("latent", rank=5, turned=2)}},
    {"positions": of("learned"), "attention": {"layout": of("differential"), "where": of("dilated", steps=2)}},
    {
        "positions": of("alibi"),
        "attention": {"score": of("shaw"), "norm": of("scalable"), "where": of("prefix", length=2)},
    },
    {
        "attention": {
            "score": of("additive"),
            "norm": of("sigmoid"),
            "where": of("all", of=[WINDOW, of("blocked", size=3)]),
        }
    },
    {"attention": {"score": of("distance"), "norm": of("softcap"), "where": of("strided", stride=2)}},
    {
        "attention": {
            "score": of("dot"),
            "norm": of("relu"),
            "where": of("any", of=[WINDOW, of("random", size=2, length=64)]),
        }
    },
    {"attention": {"score": of("general"), "norm": of("entmax", learned=True), "where": of("causal")}},
]
STEPPING = [
    {"score": of("general"), "norm": of("sparsemax")},
    {"score": of("dot"), "norm": of("hard"), "where": WINDOW},
    {"score": of("location_sensitive", kernel=3), "norm": of("softmax")},
    {"score": of("location_sensitive", kernel=3, cumulative=True), "norm": of("monotonic", noise=0.0)},
    {"score": of("additive", normalised=True), "norm": of("chunkwise", width=2, noise=0.0)},
    {"score": of("mixture", components=2), "norm": of("exponential")},
    {"score": of("local_predictive", back=2)},
    {"score": of("local_monotonic", back=2)},
    {"score": of("location")},
    {"score": of("local_predictive", back=2), "norm": of("monotonic", noise=0.0)},
]


MIXERS = {
    "encoder": [
        of("linformer", longest=8, rank=3),
        of("nystrom", landmarks=2, reach=1),
        of("non_causal", of=of("performer", features=4)),
        of("both_ways", of=of("gated_delta_rule")),
        of("lightweight", kernel=4),
        of("dynamic", kernel=3),
    ],
    "decoder": [
        of("linear"),
        of("performer", features=4),
        of("retention"),
        of("gated_linear", rank=2),
        of("delta_rule"),
        of("gated_delta_rule"),
        of("lightweight", kernel=3),
        of("dynamic", kernel=4),
    ],
}
TODAY = {
    "positions": of("rotary"),
    "activation": "swiglu",
    "norm": of("rms"),
    "bias": False,
    "attention": {"score": of("cosine"), "layout": of("grouped", kv_heads=1, head_width=4)},
}
EMBEDDINGS = [
    {"tied": "none", "width": 10, "output": 8, "scaled": False},
    {"tied": "sides", "output": 8},
    {"width": 10},
]
CROSS = [
    {"score": of("concat")},
    {"layout": of("latent", rank=5, turned=2)},
    {"norm": of("top_k", k=2), "where": of("window", back=1, ahead=1)},
]


def title(attention: Part) -> str:
    return "-".join(part["kind"] for part in attention.values() if isinstance(part, dict) and "kind" in part) or "-"


def sides(encoder: Part, decoder: Part, **more: Any) -> Part:
    return {"width": 12, "encoder": encoder, "decoder": decoder, **more}


def transformers(encoder: Part, decoder: Part, **more: Any) -> Part:
    return sides(tiny("transformer", "encoder", **encoder), tiny("transformer", "decoder", **decoder), **more)


def cases() -> Iterator[tuple[str, Part]]:
    """Every kind of encoder with every kind of decoder, every choice once, and what matters together."""
    other = {"encoder": tiny("rnn", "encoder"), "decoder": tiny("transformer", "decoder")}
    for encoder, decoder in product(parts_of("encoder"), parts_of("decoder")):
        if (encoder, decoder) not in (("none", "pool"), ("none", "aligned")):
            yield f"{encoder}:{decoder}", sides(tiny(encoder, "encoder"), tiny(decoder, "decoder"))
    for side in ("encoder", "decoder"):
        yield from ((name, sides(**other | {side: part})) for name, part in chosen(side))
    yield from ((title(side | side["attention"]), transformers(side, side)) for side in LOOKING)
    yield from ((f"cross-{title(one)}", transformers({}, {"cross_attention": one})) for one in CROSS)
    for side, mixers in MIXERS.items():
        for mixer in mixers:
            both = {side: {"mixers": [mixer, of("attention")]}}
            yield f"{side}-{mixer['kind']}", transformers(both.get("encoder", {}), both.get("decoder", {}))
    yield "today", transformers(TODAY, TODAY)
    yield "decoder-only-today", sides(of("none"), tiny("transformer", "decoder", **TODAY))
    yield "layer-drop", transformers({"layer_drop": 0.5}, {"layer_drop": 0.5})
    for place, one in enumerate(EMBEDDINGS):
        yield f"embedding-{place}", transformers({}, {}, embedding=one)
        yield f"rnn-embedding-{place}", sides(of("rnn"), of("rnn"), embedding=one)
        yield f"convolutional-embedding-{place}", sides(of("convolutional"), of("convolutional"), embedding=one)
    yield from ((title(one), sides(of("rnn"), of("rnn", attention=one))) for one in STEPPING)
    for name, pairs in (("recurrent", RECURRENT), ("convolutional", CONVOLUTIONAL)):
        for place, (encoder, decoder) in enumerate(pairs):
            yield f"{name}-{place}", sides(encoder, decoder)


CASES = [pytest.param(settings, id=name) for name, settings in cases()]
