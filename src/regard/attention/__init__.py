"""The attention core: scores, where, positions, and one `attend` for all of them."""

from regard.attention.attend import Attended, attend
from regard.attention.module import AdditiveAttention, Attention, KeysValues
from regard.attention.positions import Rotation, rotate, rotation, sinusoidal
from regard.attention.record import Maps, observe, record
from regard.attention.scores import Additive, ScaledDot, Score
from regard.attention.where import Both, Causal, Full, Lengths, Where

__all__ = [
    "Additive",
    "AdditiveAttention",
    "Attended",
    "Attention",
    "Both",
    "Causal",
    "Full",
    "KeysValues",
    "Lengths",
    "Maps",
    "Rotation",
    "ScaledDot",
    "Score",
    "Where",
    "attend",
    "observe",
    "record",
    "rotate",
    "rotation",
    "sinusoidal",
]
