"""Scores of written answers: pure functions of predictions and references, with signatures to compare them by."""

from collections.abc import Sequence
from typing import NamedTuple

from sacrebleu.metrics import BLEU, CHRF
from sacrebleu.significance import PairedTest, Result

from regard.metrics import speech
from regard.metrics.bootstrap import SAMPLES, Comparison


class Scored(NamedTuple):
    """A score from 0 to 100, how it was computed, and how many reference tokens were counted, to check with a paper."""

    score: float
    signature: str
    reference_tokens: int | None = None


def bleu(
    predictions: Sequence[str], references: Sequence[str], *, tokenize: str = "13a", lowercase: bool = False
) -> Scored:
    """Corpus BLEU-4 (Papineni et al. 2002) by sacreBLEU (Post 2018, arXiv 1804.08771)."""
    _check_pairs(predictions, references)
    metric = BLEU(tokenize=tokenize, lowercase=lowercase, force=True)  # tokenised text may be what was asked for
    result = metric.corpus_score(list(predictions), [list(references)])
    return Scored(result.score, str(metric.get_signature()), result.ref_len)


def chrf(predictions: Sequence[str], references: Sequence[str], *, lowercase: bool = False) -> Scored:
    """Corpus chrF2: F-score over character 6-grams (Popović 2015, W15-3049) by sacreBLEU."""
    _check_pairs(predictions, references)
    metric = CHRF(lowercase=lowercase)
    return Scored(metric.corpus_score(list(predictions), [list(references)]).score, str(metric.get_signature()))


def exact_match(predictions: Sequence[str], references: Sequence[str]) -> Scored:
    """The share of answers that equal their reference, outer whitespace aside."""
    _check_pairs(predictions, references)
    same = sum(one.strip() == other.strip() for one, other in zip(predictions, references, strict=True))
    return Scored(100 * same / len(references), "exact_match|case:mixed|strip:outer")


def translation(
    predictions: Sequence[str], references: Sequence[str], tokenize: str | None, lowercase: bool
) -> dict[str, Scored]:
    """BLEU, chrF and exact match; None: the tokenizer that fits the script."""
    tokenize = tokenize or bleu_tokenizer(references)
    return {
        "bleu": bleu(predictions, references, tokenize=tokenize, lowercase=lowercase),
        "chrf": chrf(predictions, references, lowercase=lowercase),
        "exact_match": exact_match(predictions, references),
    }


def transcription(
    predictions: Sequence[str], references: Sequence[str], tokenize: str | None = None, lowercase: bool = False
) -> dict[str, Scored]:
    """Edits for each 100 words and for each 100 characters, and exact match; no tokenizer changes them."""
    said, wanted = ([one.lower() for one in texts] if lowercase else [*texts] for texts in (predictions, references))
    case = f"case:{'lc' if lowercase else 'mixed'}"
    words, characters = speech.word_error_rate(said, wanted), speech.character_error_rate(said, wanted)
    return {
        "word_error_rate": Scored(words, f"wer|words:by blanks|{case}", sum(len(one.split()) for one in wanted)),
        "character_error_rate": Scored(characters, f"cer|blanks:count|{case}"),
        "exact_match": exact_match(predictions, references),
    }


def pronunciation(predictions: Sequence[str], references: Sequence[str], *scoring: object) -> dict[str, Scored]:
    """A row is a word, and its phones are separated by blanks (Ashby et al. 2021, 2021.sigmorphon-1.13).

    The word error rate is the share of words with any phone wrong; the phone error rate counts edits for each 100.
    """
    matched = exact_match(predictions, references)
    return {
        "word_error_rate": Scored(100 - matched.score, "wer|word:a whole row"),
        "phone_error_rate": Scored(speech.word_error_rate(predictions, references), "per|phones:by blanks"),
        "exact_match": matched,
    }


def bleu_tokenizer(references: Sequence[str]) -> str:
    """``zh`` for text mostly written in Han characters or kana, whose words have no spaces; otherwise ``13a``."""
    text = "".join(references[:1000])
    spaceless = sum("一" <= character <= "鿿" or "぀" <= character <= "ヿ" for character in text)
    return "zh" if 3 * spaceless > len(text) else "13a"


def paired_bootstrap_of_texts(
    one: Sequence[str],
    other: Sequence[str],
    references: Sequence[str],
    tokenize: str | None = None,
    lowercase: bool = False,
    samples: int = SAMPLES,
) -> dict[str, Comparison]:
    """BLEU and chrF of two systems under paired bootstrap resampling (Koehn 2004, W04-3250) by sacreBLEU."""
    for answers in (one, other):
        _check_pairs(answers, references)
    tokenize = tokenize or bleu_tokenizer(references)
    metrics = {
        "BLEU": BLEU(tokenize=tokenize, lowercase=lowercase, force=True, references=[list(references)]),
        "chrF2": CHRF(lowercase=lowercase, references=[list(references)]),
    }
    systems = [("one", list(one)), ("other", list(other))]
    test = PairedTest(systems, metrics, references=None, test_type="bs", n_samples=samples)
    signatures, scores = test()
    return {name.lower().rstrip("2"): _comparison(scores[name], str(signatures[name])) for name in metrics}


def _comparison(results: list[Result], signature: str) -> Comparison:
    one, other = results
    p_value = 1.0 if one.score == other.score else other.p_value  # sacreBLEU gives a tie the smallest p there is
    return Comparison(one.score, other.score, p_value, signature)


def _check_pairs(predictions: Sequence[str], references: Sequence[str]) -> None:
    """Raises ValueError; sacreBLEU would leave out in silence what has no partner."""
    if len(predictions) != len(references) or not references:
        raise ValueError(f"{len(predictions)} predictions for {len(references)} references")
