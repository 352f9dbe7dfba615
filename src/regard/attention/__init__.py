"""The attention core: scores, patterns, norms, positions and layouts, and one `attend` for all of them."""

from regard.attention.approximate import Linformer, Nystrom
from regard.attention.attend import Attended, attend, merged
from regard.attention.forgetting import DeltaRule, GatedDeltaRule, GatedLinear, MixerPart, Retention
from regard.attention.keyvalues import KeyValues
from regard.attention.layouts import DifferentialAttention, LatentAttention
from regard.attention.location import LocalMonotonic, LocalPredictive, Location, LocationSensitive, Mixture
from regard.attention.mixers import LinearAttention, Mixer, NonCausal, Performer
from regard.attention.module import Attention
from regard.attention.monotonic import Chunkwise, Monotonic
from regard.attention.norms import (
    Exponential,
    Hard,
    Norm,
    OffByOne,
    Relu,
    Scalable,
    Sigmoid,
    Sink,
    Softcap,
    Softmax,
    TalkingHeads,
    TopK,
)
from regard.attention.pool import Pool
from regard.attention.positions import Alibi, Learned, Position, Rotary, Sinusoidal, T5Bias, rotation, sinusoidal
from regard.attention.record import Maps, observe, record
from regard.attention.relative import Shaw, TransformerXL
from regard.attention.rotary import Rotation, rotate
from regard.attention.scores import Additive, Concat, Cosine, Distance, Dot, General, ScaledDot, Score
from regard.attention.settings import AttentionPart, SteppingPart
from regard.attention.sparse import Entmax, LearnedEntmax, Sparsemax
from regard.attention.stepping import SteppingAttention
from regard.attention.tables import Documents, Graph, Lengths, Table
from regard.attention.weights import Weights
from regard.attention.where import (
    Blocked,
    Causal,
    Dilated,
    Full,
    Global,
    Prefix,
    Random,
    Strided,
    Where,
    Window,
)

__all__ = [
    "Additive",
    "Alibi",
    "Attended",
    "Attention",
    "AttentionPart",
    "Blocked",
    "Causal",
    "Chunkwise",
    "Concat",
    "Cosine",
    "DeltaRule",
    "DifferentialAttention",
    "Dilated",
    "Distance",
    "Documents",
    "Dot",
    "Entmax",
    "Exponential",
    "Full",
    "GatedDeltaRule",
    "GatedLinear",
    "General",
    "Global",
    "Graph",
    "Hard",
    "KeyValues",
    "LatentAttention",
    "Learned",
    "LearnedEntmax",
    "Lengths",
    "LinearAttention",
    "Linformer",
    "LocalMonotonic",
    "LocalPredictive",
    "Location",
    "LocationSensitive",
    "Maps",
    "Mixer",
    "MixerPart",
    "Mixture",
    "Monotonic",
    "NonCausal",
    "Norm",
    "Nystrom",
    "OffByOne",
    "Performer",
    "Pool",
    "Position",
    "Prefix",
    "Random",
    "Relu",
    "Retention",
    "Rotary",
    "Rotation",
    "Scalable",
    "ScaledDot",
    "Score",
    "Shaw",
    "Sigmoid",
    "Sink",
    "Sinusoidal",
    "Softcap",
    "Softmax",
    "Sparsemax",
    "SteppingAttention",
    "SteppingPart",
    "Strided",
    "T5Bias",
    "Table",
    "TalkingHeads",
    "TopK",
    "TransformerXL",
    "Weights",
    "Where",
    "Window",
    "attend",
    "merged",
    "observe",
    "record",
    "rotate",
    "rotation",
    "sinusoidal",
]
