"""What scores are called, and which way is better."""

from collections.abc import Mapping
from typing import NamedTuple


class Metric(NamedTuple):
    """A score in English and in Chinese, whether lower is better, and whether it is a share, from 0 to 100."""

    english: str
    chinese: str
    lower_is_better: bool = False
    is_share: bool = True


METRICS = {
    "loss": Metric("loss", "损失", True, False),
    "bleu": Metric("BLEU", "BLEU"),
    "chrf": Metric("chrF", "chrF"),
    "exact_match": Metric("exact match", "完全匹配"),
    "accuracy": Metric("accuracy", "准确率"),
    "entity_f1": Metric("entity F1", "实体 F1"),
    "entity_precision": Metric("entity precision", "实体精确率"),
    "entity_recall": Metric("entity recall", "实体召回率"),
    "token_accuracy": Metric("token accuracy", "词元准确率"),
    "f1": Metric("F1", "F1"),
    "macro_f1": Metric("macro F1", "宏平均 F1"),
    "loss_per_character": Metric("loss per character", "每字符损失", True, False),
    "bits_per_character": Metric("bits per character", "每字符比特数", True, False),
    "perplexity": Metric("perplexity", "困惑度", True, False),
    "calibration_error": Metric("calibration error", "校准误差", True),
    "mse": Metric("MSE", "均方误差", True, False),
    "mae": Metric("MAE", "平均绝对误差", True, False),
    "smape": Metric("sMAPE", "对称平均绝对百分比误差", True, False),
    "mase": Metric("MASE", "平均绝对标度误差", True, False),
    "quantile_loss": Metric("quantile loss", "分位数损失", True, False),
    "word_error_rate": Metric("word error rate", "词错误率", True),
    "phone_error_rate": Metric("phone error rate", "音素错误率", True),
    "character_error_rate": Metric("character error rate", "字错误率", True),
}


def metric(name: str) -> Metric:
    """Of that name; scores that are not in the table are called what they are, and higher is better."""
    shown = name.replace("_", " ")
    return METRICS.get(name, Metric(shown, shown))


def shown(name: str, value: float) -> str:
    """A score for people: shares to two decimals, errors that are no shares to as many as tell them apart."""
    return f"{value:.4g}" if metric(name).lower_is_better and abs(value) < 10 else f"{value:.2f}"


def deciding(name: str, values: Mapping[str, float]) -> float:
    """A score as a number of which higher is better."""
    return -values[name] if metric(name).lower_is_better else values[name]


def is_better(name: str, one: float, other: float) -> bool:
    """Whether the one score beats the other."""
    return one < other if metric(name).lower_is_better else one > other
