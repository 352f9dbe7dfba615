"""Settings of recurrent encoders and decoders that the contracts of test_models.py are held against."""

from typing import Any

Part = dict[str, Any]

LOCATION = {"score": {"kind": "location_sensitive", "kernel": 3}}
MONOTONIC = {"norm": {"kind": "monotonic", "noise": 0.0}}
MIXTURE = {"score": {"kind": "mixture", "components": 2}, "norm": {"kind": "exponential"}}
GENERAL = {"score": {"kind": "general"}}
DOT = {"score": {"kind": "dot"}}


def rnn(**settings: Any) -> Part:
    return {"kind": "rnn", **settings}


DEEP = rnn(cell="lstm", layers=3, residual=True, variational=True)
ONE_WAY = rnn(cell="rnn", layers=2, bidirectional=False)
NONE = {"kind": "none"}

RECURRENT: list[tuple[Part, Part]] = [
    (DEEP, DEEP),
    (DEEP, DEEP | {"attend": "after"}),
    (DEEP, DEEP | {"attend": "after", "input_feeding": False}),
    (ONE_WAY, rnn(cell="rnn", layers=2, readout="maxout", attention=LOCATION)),
    (ONE_WAY, rnn(cell="lstm", layers=2, attend="after", readout="maxout", attention=MIXTURE)),
    (rnn(), rnn(layers=2, attend="after", attention=MONOTONIC)),
    (rnn(), rnn(layers=2, attend="after", input_feeding=False, attention=LOCATION | MONOTONIC)),
    (rnn(), rnn(attend="after", input_feeding=False, attention=DOT)),
    (rnn(cell="lstm"), rnn(width=7)),
    (rnn(), rnn(width=7, attend="after", attention=DOT)),
    (rnn(), rnn(width=7, layers=2, cell="lstm", attend="after", input_feeding=False, attention=GENERAL)),
    (rnn(), rnn(cell="lstm", layers=2, attention=None)),
    (rnn(), rnn(width=7, attention=None, readout="maxout")),
    (NONE, rnn(cell="lstm", layers=2, residual=True)),
    (NONE, rnn(cell="rnn", width=7)),
]
"""Cells, depths, arrangements and attentions in combinations that matter together."""
