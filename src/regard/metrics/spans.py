"""Scores of answers that are spans of a passage, as the official scripts of SQuAD 1.1 and CMRC 2018 compute them.

Each answer is scored against the most favourable of its references; a corpus has the mean over its questions.
"""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

_ARTICLE = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)
_HAN = "\u4e00-\u9fa5"
_CHINESE_TOKEN = re.compile(f"[{_HAN}]|\\d+(?:[.,]\\d+)+|[^\\W{_HAN}]+|[^\\w\\s]")
_CHINESE_PUNCTUATION = str.maketrans(
    "", "", "-:_*^/\\~`+=，。：？！“”；’《》·、「」（）－～『』"
)  # those that CMRC ignores


class SpanScores(NamedTuple):
    """Exact match and F1 from 0 to 100, and by whose rules."""

    exact_match: float
    f1: float
    rules: str


def span_scores(predictions: Sequence[str], references: Sequence[Sequence[str]]) -> SpanScores:
    """By the rules of CMRC 2018 where references are mostly Chinese, otherwise by those of SQuAD 1.1.

    Raises:
        ValueError: there are not as many predictions as questions, or none, or a question without a reference.
    """
    if len(predictions) != len(references) or not references or not all(references):
        raise ValueError(f"{len(predictions)} predictions for {len(references)} questions with references")
    chinese = is_chinese([one for answers in references for one in answers])
    same, overlap = (cmrc_exact_match, cmrc_f1) if chinese else (squad_exact_match, squad_f1)
    pairs = [*zip(predictions, references, strict=True)]
    return SpanScores(_mean(same, pairs), _mean(overlap, pairs), "cmrc2018" if chinese else "squad1.1")


def is_chinese(texts: Sequence[str]) -> bool:
    """Whether a third of the characters are Chinese."""
    text = "".join(texts[:1000])
    return 3 * len(re.findall(f"[{_HAN}]", text)) > len(text)


def _mean(score: Callable[[str, str], float], pairs: Sequence[tuple[str, Sequence[str]]]) -> float:
    return 100 * sum(max(score(found, one) for one in answers) for found, answers in pairs) / len(pairs)


def squad_exact_match(prediction: str, reference: str) -> float:
    """Whether they are equal but for case, ASCII punctuation, English articles and blanks (Rajpurkar et al. 2016)."""
    return float(_squad_tokens(prediction) == _squad_tokens(reference))


def squad_f1(prediction: str, reference: str) -> float:
    """Overlap as bags of words, normalised in the same way."""
    found, wanted = _squad_tokens(prediction), _squad_tokens(reference)
    return _f1((Counter(found) & Counter(wanted)).total(), len(found), len(wanted))


def _squad_tokens(text: str) -> list[str]:
    return _ARTICLE.sub(" ", text.lower().translate(_PUNCTUATION)).split()


def cmrc_exact_match(prediction: str, reference: str) -> float:
    """Whether they are equal but for case, punctuation and outer blanks (Cui et al. 2019, D19-1600)."""
    return float(_without_punctuation(prediction) == _without_punctuation(reference))


def cmrc_f1(prediction: str, reference: str) -> float:
    """The longest run of tokens that both have; every Chinese character is a token, and every word of other scripts."""
    found, wanted = (_CHINESE_TOKEN.findall(_without_punctuation(text)) for text in (prediction, reference))
    return _f1(_longest_common_run(found, wanted), len(found), len(wanted))


def _without_punctuation(text: str) -> str:
    return text.lower().strip().translate(_CHINESE_PUNCTUATION)


def _longest_common_run(one: Sequence[str], other: Sequence[str]) -> int:
    longest, before = 0, [0] * (len(other) + 1)
    for token in one:
        runs = [0, *(before[place] + 1 if token == match else 0 for place, match in enumerate(other))]
        longest, before = max(longest, *runs), runs
    return longest


def _f1(common: int, found: int, wanted: int) -> float:
    """The harmonic mean of precision and recall."""
    return 2 * common / (found + wanted) if common else 0.0
