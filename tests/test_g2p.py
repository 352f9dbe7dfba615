"""Words to phones by character: the data of a language, its scores, and a toy language that is learnt."""

import os
import unicodedata
from functools import cache
from itertools import product
from pathlib import Path

import pytest

import regard
from regard.data.fields import TextField
from regard.data.pronunciations import Pronunciations
from regard.data.tokenisers import Vocabulary, learn_tokeniser
from regard.errors import DataError, SettingsError
from regard.metrics.names import is_better, metric
from regard.metrics.text import pronunciation, transcription
from regard.recipes import named_recipe
from regard.settings import override, parse
from regard.tasks.generate import GenerateSettings

PHONES = {"b": "b", "d": "d", "k": "kʰ", "a": "ɑ", "e": "e ɪ", "o": "ɔː"}
SMALL = ["model.width=48", "training.steps=200", "training.evaluate_every=100", "training.precision=fp32"]


def spoken(word: str) -> str:
    """A letter a phone, but "e" is two and "k" before "o" has no breath."""
    return " ".join("k" if pair == "ko" else PHONES[pair[0]] for pair in zip_pairs(word))


def zip_pairs(word: str) -> list[str]:
    return [word[place : place + 2] for place in range(len(word))]


def write(folder: Path, language: str = "toy") -> Path:
    syllables = ["".join(pair) for pair in product("bdk", "aeo")]
    words = ["".join(parts) for parts in product(syllables, repeat=3)]
    parts = {"train": words[::2], "dev": words[1::20], "test": words[3::20]}
    for name, chosen in parts.items():
        lines = [f"{word}\t{spoken(word)}\n" for word in chosen]
        (folder / f"{language}_{name}.tsv").write_text("".join(lines), "utf-8")
    return folder


def test_a_toy_language_is_learnt(tmp_path: Path) -> None:
    faster = [
        "search.beam=1",
        "batching.tokens=256",
        "training.optimisation.learning_rate=1e-2",
        "training.optimisation.ema_decay=0.9",
    ]
    recipe = ["data.language=toy", "model.dropout=0", *faster, *SMALL]
    run = regard.train(
        recipe="g2p", data_folder=str(write(tmp_path)), out=tmp_path / "run", settings=recipe, device="cpu"
    )
    assert run.scores["word_error_rate"] < 10 and run.trained.baseline["word_error_rate"] == 100
    assert run.scores["phone_error_rate"] < 3
    assert run.predictor.predict(["kobeka"])[0].text == "k ɔː b e ɪ kʰ ɑ"


def test_a_language_is_found_below_its_folder(tmp_path: Path) -> None:
    (tmp_path / "low").mkdir()
    write(tmp_path / "low", "ice")
    corpus = Pronunciations(folder=str(tmp_path), language="ice").load()
    assert (len(corpus.train), len(corpus.dev), len(corpus.test)) == (365, 37, 37)
    assert corpus.train[0] == {"source": "bababa", "target": "b ɑ b ɑ b ɑ"}
    with pytest.raises(DataError, match=r"no icy_train\.tsv") as caught:
        Pronunciations(folder=str(tmp_path), language="icy").load()
    assert caught.value.hint == "did you mean 'ice'?"
    with pytest.raises(DataError, match="here or below"):
        Pronunciations(folder=str(tmp_path / "nowhere")).load()


@cache
def edits(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """By the recursion that defines them."""
    if not one or not other:
        return len(one) + len(other)
    changed = edits(one[1:], other[1:]) + (one[0] != other[0])
    return min(edits(one[1:], other) + 1, edits(one, other[1:]) + 1, changed)


def test_error_rates_are_counted_by_hand() -> None:
    references = ["k æ t", "d ɔ ɡ", "b ɜː d", "f ɪ ʃ"]
    answers = ["k æ t", "d ɔ ɡ z", "b d", "ʃ ɪ f"]
    scores = {name: one.score for name, one in pronunciation(answers, references).items()}
    wrong = sum(edits(tuple(one.split()), tuple(other.split())) for one, other in zip(answers, references, strict=True))
    assert scores == {"word_error_rate": 75, "exact_match": 25, "phone_error_rate": pytest.approx(100 * wrong / 12)}
    found = transcription(["ab c", "abd"], ["ab c", "abc"])
    assert found["character_error_rate"].score == pytest.approx(100 / 7)
    assert found["word_error_rate"].score == pytest.approx(100 / 3) and found["exact_match"].score == 50
    lowered = transcription(["AB c"], ["ab C"], lowercase=True)
    assert lowered["word_error_rate"].score == lowered["character_error_rate"].score == 0
    assert "case:lc" in lowered["word_error_rate"].signature and lowered["word_error_rate"].reference_tokens == 2


def test_korean_is_read_letter_by_letter() -> None:
    words = ["가가린", "순수", "한국"]
    field = TextField(learn_tokeniser(words, Vocabulary(kind="characters", split_hangul=True)))
    for word in [*words, "간", "뷁"]:
        ids = field.encode(word)
        assert field.decode(ids) == word
        letters = [piece for piece in field.steps(ids) if not piece.startswith("<0x")]
        assert all(unicodedata.name(letter).startswith("HANGUL") and len(letter) == 1 for letter in letters)
    assert "".join(field.steps(field.encode("간"))) == unicodedata.normalize("NFD", "간")


def test_lower_is_better() -> None:
    for name in ("word_error_rate", "phone_error_rate", "character_error_rate"):
        assert is_better(name, 10.0, 20.0) and metric(name).chinese != metric(name).english
    with pytest.raises(SettingsError, match="metric"):
        parse(GenerateSettings, {"metric": "phones"}, "task")


def test_the_official_splits() -> None:
    folder = Path(os.environ.get("REGARD_DATA", "")) / "char_transduction" / "sigmorphon2021-g2p"
    if not folder.is_dir():
        pytest.skip("set REGARD_DATA to a folder with char_transduction/sigmorphon2021-g2p")
    recipe = override(named_recipe("g2p", str(folder)), ["data.language=fre"])
    corpus = recipe.data.load()
    assert (len(corpus.train), len(corpus.dev), len(corpus.test)) == (8000, 1000, 1000)
    assert corpus.train[1] == {"source": "abandon", "target": "a b ɑ̃ d ɔ̃"}
