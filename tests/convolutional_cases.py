"""Settings of convolutional encoders and decoders that the contracts of test_models.py are held against."""

from typing import Any

Part = dict[str, Any]


def side(**more: Any) -> Part:
    return {"kind": "convolutional", "layers": 2, **more}


STAGES = [{"layers": 1, "kernel": 2, "width": 6}, {"layers": 2}, {"layers": 1, "kernel": 1, "width": 8}]
TEMPORAL = side(block="temporal")
WINDOW = {"where": {"kind": "window", "back": 2, "ahead": 1}, "norm": {"kind": "off_by_one"}}
RNN, TRANSFORMER = {"kind": "rnn"}, {"kind": "transformer", "layers": 2, "heads": 2, "feedforward": 12}

CONVOLUTIONAL = [
    (side(), side()),
    (side(), side(cross_attention={"score": {"kind": "dot"}})),
    (side(stages=STAGES), side(stages=STAGES, positions={"kind": "none"})),
    (side(kernel=4, positions={"kind": "sinusoidal"}), side(kernel=4, cross_attention=WINDOW)),
    (TEMPORAL, TEMPORAL),
    (side(), TEMPORAL | {"cross_attention": {"score": {"kind": "additive"}, "norm": {"kind": "sink"}}}),
    (
        TEMPORAL | {"stages": [{"layers": 1, "width": 6}, {"layers": 2}]},
        side(cross_attention={"score": {"kind": "concat"}}),
    ),
    (RNN, side()),
    (TRANSFORMER, TEMPORAL),
    (TEMPORAL, RNN),
    (side(), TRANSFORMER),
    ({"kind": "none"}, side(kernel=5)),  # two layers that reach back over source and target
    ({"kind": "none"}, TEMPORAL),
]
