"""Scores of written answers against sacreBLEU's own functions and by hand."""

import math

import numpy as np
import pytest
import sacrebleu

from regard.metrics.bootstrap import paired_bootstrap
from regard.metrics.text import bleu, bleu_tokenizer, chrf, exact_match, paired_bootstrap_of_texts

PREDICTIONS = ["the cat sat on the mat", "a dog barks", "Guten Tag", "nothing"]
REFERENCES = ["the cat sat on a mat", "a dog is barking", "guten Tag", "something else"]


@pytest.mark.parametrize("lowercase", [False, True])
def test_scores_are_those_of_sacrebleu(lowercase: bool) -> None:
    expected = sacrebleu.corpus_bleu(PREDICTIONS, [REFERENCES], lowercase=lowercase)
    found = bleu(PREDICTIONS, REFERENCES, lowercase=lowercase)
    assert (found.score, found.reference_tokens) == (expected.score, expected.ref_len)
    assert f"case:{'lc' if lowercase else 'mixed'}|eff:no|tok:13a" in found.signature
    expected_chrf = sacrebleu.CHRF(lowercase=lowercase).corpus_score(PREDICTIONS, [REFERENCES])
    assert chrf(PREDICTIONS, REFERENCES, lowercase=lowercase).score == expected_chrf.score


def test_scores_by_hand() -> None:
    assert bleu(["a b c d e"], ["a b c d f"]).score == pytest.approx(100 * (4 / 5 * 3 / 4 * 2 / 3 * 1 / 2) ** 0.25)
    assert bleu(["a b c d"], ["a b c d e"]).score == pytest.approx(100 * math.exp(-1 / 4))
    assert chrf(["ab"], ["ac"]).score == pytest.approx(25)  # half of the letters, none of the pairs
    assert exact_match(["a ", "b", "C"], ["a", "b", "c"]).score == pytest.approx(200 / 3)
    assert bleu(["我喜欢猫。"], ["我喜欢狗。"], tokenize="zh").reference_tokens == 5
    assert [bleu_tokenizer([text]) for text in ("我喜欢猫。", "ねこが好き", "I like 猫 a lot")] == ["zh", "zh", "13a"]
    for score in (bleu, chrf, exact_match):
        with pytest.raises(ValueError, match="1 predictions for 2 references"):
            score(["a"], ["a", "b"])


def test_paired_bootstrap_tells_a_difference_from_none() -> None:
    references = [f"sentence {number} is one of very many" for number in range(100)]
    worse = [f"{line} words" if number % 2 else line[:12] for number, line in enumerate(references)]
    none = paired_bootstrap_of_texts(worse, worse, references, samples=200)
    assert none["bleu"].p_value == none["chrf"].p_value == 1 and none["bleu"].one == none["bleu"].other
    found = paired_bootstrap_of_texts(references, worse, references, samples=200)
    assert found["bleu"].one == pytest.approx(100) and found["bleu"].other == bleu(worse, references).score
    assert max(found["bleu"].p_value, found["chrf"].p_value) < 0.01 and "bs:200" in found["bleu"].signature


def test_paired_bootstrap_of_any_score_is_near_the_normal_distribution() -> None:
    """Shares of right answers of which 40 rows are right in one system alone and 20 in the other alone."""
    right = [
        np.r_[np.ones(300), np.ones(40), np.zeros(20), np.zeros(40)],
        np.r_[np.ones(300), np.zeros(40), np.ones(20), np.zeros(40)],
    ]
    one, other = (lambda places, own=own: {"accuracy": 100 * float(own[[*places]].mean())} for own in right)
    [found] = paired_bootstrap(one, other, 400, {"accuracy": "accuracy"}, samples=2000).values()
    difference = right[0] - right[1]
    z = difference.mean() / (difference.std() / 20)
    assert (found.one, found.other) == pytest.approx((85, 80)) and found.signature.startswith("accuracy|bs:2000")
    assert found.p_value == pytest.approx(math.erfc(z / 2**0.5), abs=0.008) and found.p_value > 0.001
    assert paired_bootstrap(one, one, 400, {"accuracy": ""}, samples=50)["accuracy"].p_value == 1
