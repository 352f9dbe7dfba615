"""Scores of spans by the rules of the official scripts, and the baseline, against hand-made cases."""

import random

import numpy as np
import pytest

from regard.metrics.spans import cmrc_exact_match, cmrc_f1, span_scores, squad_exact_match, squad_f1
from regard.tasks.baselines.sliding_window import SlidingWindow


@pytest.mark.parametrize(
    ("prediction", "reference", "same", "overlap"),
    [
        ("The Broncos!", "broncos", 1, 1),
        ("a an the", "", 1, 0),
        ("in the year 1999", "1999", 0, 0.5),
        ("Tesla, Nikola", "nikola tesla", 0, 1),
        ("dog dog cat", "dog bird", 0, 0.4),
        ("théâtre", "theatre", 0, 0),
        ("athens", "thens", 0, 0),
    ],
)
def test_squad_rules(prediction: str, reference: str, same: float, overlap: float) -> None:
    assert squad_exact_match(prediction, reference) == same
    assert squad_f1(prediction, reference) == pytest.approx(overlap)


@pytest.mark.parametrize(
    ("prediction", "reference", "same", "overlap"),
    [
        ("《光荣》和ω-Force。", "光荣和ω-force", 1, 1),
        ("光荣公司", "光荣", 0, 2 / 3),
        ("荣光", "光荣", 0, 0.5),  # a run, not a bag
        ("在1999年", "1999年", 0, 0.8),  # a number is one token
        ("北京", "上海", 0, 0),
        ("，", "。", 1, 0),
    ],
)
def test_cmrc_rules(prediction: str, reference: str, same: float, overlap: float) -> None:
    assert cmrc_exact_match(prediction, reference) == same
    assert cmrc_f1(prediction, reference) == pytest.approx(overlap)


def test_the_best_reference_counts_and_the_script_decides() -> None:
    assert span_scores(["the dog", "x"], [["cat", "dog"], ["y"]]) == (50, 50, "squad1.1")
    assert span_scores(["上海。"], [["北京", "上海"]]) == (100, 100, "cmrc2018")
    with pytest.raises(ValueError, match="1 predictions for 2"):
        span_scores(["x"], [["x"], ["y"]])


def test_the_sliding_window_is_its_formula() -> None:
    """By brute force over windows and spans (Richardson et al. 2013, algorithm 1)."""
    draw = random.Random(1)
    for _ in range(30):
        words = [draw.choice("abcdefgh") for _ in range(draw.randint(3, 15))]
        asked, length = {*draw.sample("abcdefghxy", 3)}, draw.randint(1, 2)

        def rarity(word: str, words: list[str] = words) -> float:
            return float(np.log(1 + 1 / words.count(word)))

        best, wanted = -1.0, ""
        for first in range(len(words) - length + 1):
            span = words[first : first + length]
            if {*span} & asked:
                continue
            size = min(length + len(asked), len(words))
            windows = [range(at, at + size) for at in range(len(words) - size + 1)]
            around = [window for window in windows if window[0] <= first and first + length <= window[0] + size]
            score = sum(map(rarity, span)) + max(
                sum(rarity(words[at]) for at in window if words[at] in asked) for window in around
            )
            if score > best + 1e-9:
                best, wanted = score, " ".join(span)
        if wanted:
            row = {"source": " ".join(asked), "passage": " ".join(words)}
            assert SlidingWindow(length).answer(row) == wanted
    assert SlidingWindow.learn(["one", "two words", "three 字 字"]).words == 2
    assert SlidingWindow(3).answer({"source": "x", "passage": "..."}) == ""
