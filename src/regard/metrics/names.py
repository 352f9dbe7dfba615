"""What scores are called, and which way is better."""

from collections.abc import Mapping
from typing import NamedTuple


class Metric(NamedTuple):
    """A score in English and in Chinese, and whether lower is better."""

    english: str
    chinese: str
    lower_is_better: bool = False


METRICS = {
    "loss": Metric("loss", "损失", True),
    "bleu": Metric("BLEU", "BLEU"),
    "chrf": Metric("chrF", "chrF"),
    "exact_match": Metric("exact match", "完全匹配"),
    "accuracy": Metric("accuracy", "准确率"),
    "macro_f1": Metric("macro F1", "宏平均 F1"),
    "calibration_error": Metric("calibration error", "校准误差", True),
}


def metric(name: str) -> Metric:
    """Of that name; scores that are not in the table are called what they are, and higher is better."""
    shown = name.replace("_", " ")
    return METRICS.get(name, Metric(shown, shown))


def deciding(name: str, values: Mapping[str, float]) -> float:
    """A score as a number of which higher is better."""
    return -values[name] if metric(name).lower_is_better else values[name]


def is_better(name: str, one: float, other: float) -> bool:
    """Whether the one score beats the other."""
    return one < other if metric(name).lower_is_better else one > other
