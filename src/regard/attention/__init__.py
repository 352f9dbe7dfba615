"""The attention core: scores, patterns, norms, positions, and one `attend` for all of them."""

from regard.attention.attend import Attended, attend
from regard.attention.keyvalues import KeyValues
from regard.attention.module import Attention
from regard.attention.norms import Hard, Norm, OffByOne, Relu, Scalable, Sigmoid, Sink, Softcap, Softmax, TopK
from regard.attention.positions import rotation, sinusoidal
from regard.attention.record import Maps, observe, record
from regard.attention.rotary import Rotation, rotate
from regard.attention.scores import Additive, Concat, Cosine, Distance, Dot, General, ScaledDot, Score
from regard.attention.where import (
    Blocked,
    Causal,
    Dilated,
    Documents,
    Full,
    Global,
    Graph,
    Lengths,
    Prefix,
    Random,
    Strided,
    Table,
    Where,
    Window,
)

__all__ = [
    "Additive",
    "Attended",
    "Attention",
    "Blocked",
    "Causal",
    "Concat",
    "Cosine",
    "Dilated",
    "Distance",
    "Documents",
    "Dot",
    "Full",
    "General",
    "Global",
    "Graph",
    "Hard",
    "KeyValues",
    "Lengths",
    "Maps",
    "Norm",
    "OffByOne",
    "Prefix",
    "Random",
    "Relu",
    "Rotation",
    "Scalable",
    "ScaledDot",
    "Score",
    "Sigmoid",
    "Sink",
    "Softcap",
    "Softmax",
    "Strided",
    "Table",
    "TopK",
    "Where",
    "Window",
    "attend",
    "observe",
    "record",
    "rotate",
    "rotation",
    "sinusoidal",
]
