"""Vocabularies of subwords or characters: sentencepiece with byte fallback, so no character is unknown."""

import io
import re
import tempfile
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import sentencepiece
import torch
from pydantic import Field, model_validator

from regard.data.learnt import damaged
from regard.data.rows import LONGEST_TEXT
from regard.errors import DataError
from regard.padded import Ids
from regard.pieces import BLANK, STAND_IN
from regard.settings import Settings

SPECIAL_TOKENS = 4
PAD, UNKNOWN, START, END = range(SPECIAL_TOKENS)
"""The ids every vocabulary begins with."""

WAYS = 64
"""To cut a text, of which one is drawn."""

LONGEST_PIECE = 16
MOST_PIECES = 200_000
MOST_BYTES = 80 * MOST_PIECES
"""Of a saved vocabulary: a piece takes at most 75."""

HAN = "\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
"""Han characters, as a range of a regular expression."""

LAYOUT = "\t\n"
"""Characters that lay out a text; in a verbatim vocabulary each is a piece of its own."""

BOUND = "\ufdd1"
_BESIDE_HAN = re.compile(f"(?<=[{HAN}])(?=\\S)|(?<=\\S)(?=[{HAN}])")

THREADS = 2  # fixed, whatever the machine: sums over threads decide ties between pieces


class Vocabulary(Settings):
    """What to learn. Characters stand alone and verbatim, and there are as many as the text has, up to ``size``.

    Merges (byte-pair encoding, Sennrich et al. 2016, arXiv 1508.07909) leave more words whole than subwords do.
    """

    kind: Literal["subwords", "merges", "characters"] = "subwords"
    size: int = Field(default=8000, ge=300, le=MOST_PIECES, description="pieces, bytes and tags included")
    verbatim: bool = Field(default=False, description="every blank and line break is kept, and none is added")
    split_digits: bool = Field(default=False, description="every digit of every script a piece of its own")
    split_han: bool = Field(default=False, description="every Han character a piece of its own")
    split_hangul: bool = Field(default=False, description="every syllable of Korean as its letters")
    sampling: float | None = Field(
        default=None, gt=0, description="subword regularisation: the smaller, the more varied the pieces of a text"
    )

    @model_validator(mode="after")
    def _only_subwords_are_cut_otherwise(self) -> "Vocabulary":
        if self.kind != "subwords" and self.sampling:
            raise ValueError(f"{self.kind} have no other pieces to sample: leave out sampling, or set kind to subwords")
        return self


class Tokeniser:
    """Text to ids and back, with one control token for every tag.

    Control tokens and ``<s>`` or ``</s>`` are never read out of text: a user's "<s>" is three characters.
    """

    def __init__(self, serialised: bytes):
        self.serialised = serialised
        self.processor = sentencepiece.SentencePieceProcessor()
        self.processor.load_from_serialized_proto(serialised)
        controls = [one for one in range(SPECIAL_TOKENS, len(self)) if self.processor.is_control(one)]
        self.tags: dict[str, int] = {_tag_of(self.processor.id_to_piece(one)): one for one in controls}

    def __len__(self) -> int:
        return int(self.processor.get_piece_size())

    def encode(self, text: str) -> list[int]:
        return list(self.processor.encode(_without_sign(text)))

    def sample(self, text: str, smoothing: float) -> list[int]:
        """Ids of one of the likeliest ways to cut the text, drawn with its probability to the power of ``smoothing``.

        Subword regularisation (Kudo 2018, arXiv 1804.10959, section 3.1). Drawn from torch's generator: sentencepiece's
        own draws differ from process to process, whatever its seed.
        """
        ways = self.processor.nbest_encode(_without_sign(text), nbest_size=WAYS) or [[]]
        scores = torch.tensor([sum(map(self.processor.get_score, way)) for way in ways], dtype=torch.float64)
        return list(ways[int(torch.multinomial((smoothing * scores).softmax(0), 1))])

    def decode(self, ids: Sequence[int]) -> str:
        return str(self.processor.decode(list(ids))).replace(STAND_IN, BLANK)

    def pieces(self, ids: Ids) -> list[str]:
        return [self.processor.id_to_piece(int(one)) for one in ids]


def _with_bounds(texts: Iterable[str]) -> Iterator[str]:
    """With bounds around Han characters, for no piece to cross."""
    return (_BESIDE_HAN.sub(BOUND, text) for text in texts)


def _without_sign(text: str) -> str:
    return text.replace(BLANK, STAND_IN)


def _control_token(tag: str) -> str:
    return f"<2{tag}>"


def _tag_of(control_token: str) -> str:
    return control_token.removeprefix("<2").removesuffix(">")


def load_tokeniser(path: Path) -> Tokeniser:
    """A vocabulary from a sentencepiece model file.

    Raises:
        RunError: the file is missing, or no sentencepiece model that `learn_tokeniser` can have made.
    """
    try:
        tokeniser = Tokeniser(path.read_bytes())
        tokeniser.pieces([*range(len(tokeniser))])  # every one is text
    except (OSError, RuntimeError, UnicodeDecodeError) as error:
        raise damaged(path, f"not a sentencepiece model: {error}") from None
    known = tokeniser.processor
    if (known.pad_id(), known.unk_id(), known.bos_id(), known.eos_id()) != (PAD, UNKNOWN, START, END):
        raise damaged(path, "not a sentencepiece model of regard's: it does not begin with <pad> <unk> <s> </s>")
    return tokeniser


def learn_tokeniser(texts: Sequence[str], settings: Vocabulary, tags: Sequence[str] = ()) -> Tokeniser:
    """At most ``settings.size`` pieces, the same every time; subwords are those of Kudo 2018, arXiv 1804.10959.

    Small data gets as many pieces as it supports. Text is kept as it is written: no width or case folding. Of
    characters, the most frequent are the pieces.

    Raises:
        DataError: there is no text to learn from.
    """
    serialised = io.BytesIO()
    characters = set().union(*texts)
    bounded = settings.split_han and settings.kind != "characters"
    try:
        with tempfile.NamedTemporaryFile("w", suffix=".tsv") as rules:
            rules.writelines(_letters_of_hangul() if settings.split_hangul else [])
            rules.flush()
            letters: dict[str, Any] = {"normalization_rule_tsv": rules.name} if settings.split_hangul else {}
            sentencepiece.SentencePieceTrainer.train(
                sentence_iterator=map(_without_sign, _with_bounds(cut(texts)) if bounded else cut(texts)),
                pretokenization_delimiter=BOUND if bounded else "",
                model_writer=serialised,
                vocab_size=settings.size,
                hard_vocab_limit=False,
                byte_fallback=True,
                normalization_rule_name="identity",
                user_defined_symbols=_alone(characters, settings),
                max_sentencepiece_length=LONGEST_PIECE,
                max_sentence_length=1 << 20,
                control_symbols=[_control_token(tag) for tag in tags],
                pad_id=PAD,
                unk_id=UNKNOWN,
                bos_id=START,
                eos_id=END,
                num_threads=THREADS,
                minloglevel=2,
                **_form(settings, characters),
                **letters,
            )
    except (RuntimeError, OSError) as error:
        hint = "is there text on both sides, and is vocabulary.size well above the number of its characters?"
        raise DataError(f"no vocabulary could be learnt: {error}", hint=hint) from None
    return Tokeniser(serialised.getvalue())


def _form(settings: Vocabulary, characters: set[str]) -> dict[str, Any]:
    """What the kinds differ in, as sentencepiece takes it."""
    as_written = {"remove_extra_whitespaces": False, "add_dummy_prefix": False}
    if settings.kind == "characters":
        return {"model_type": "char", "character_coverage": 1.0, **as_written}
    coverage = 1.0 if len(characters) < settings.size / 2 else 0.9995
    model = "bpe" if settings.kind == "merges" else "unigram"
    return {"model_type": model, "character_coverage": coverage, **(as_written if settings.verbatim else {})}


def _letters_of_hangul() -> Iterator[str]:
    """Rules of sentencepiece's normaliser: the code points of each syllable, a tab, those of its letters."""
    for syllable in map(chr, range(0xAC00, 0xD7A4)):
        letters = " ".join(f"{ord(letter):X}" for letter in unicodedata.normalize("NFD", syllable))
        yield f"{ord(syllable):X}\t{letters}\n"


def _alone(characters: set[str], settings: Vocabulary) -> list[str]:
    """What no piece may join with others."""
    digits = sorted(filter(str.isdecimal, characters)) if settings.split_digits else []
    return digits + sorted(characters & set(LAYOUT) if settings.verbatim else [])


def cut(texts: Iterable[str]) -> Iterator[str]:
    """In parts that are not too long for sentencepiece."""
    return (text[start : start + LONGEST_TEXT] for text in texts for start in range(0, len(text), LONGEST_TEXT))
