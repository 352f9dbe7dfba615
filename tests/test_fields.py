"""Text to ids and back: nothing is lost, no text is a command; tags and vocabularies are checked."""

import os
import random
import re
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
import torch
from hypothesis import strategies

import regard
from regard.data.fields import TextField
from regard.data.tokenisers import (
    END,
    LONGEST_PIECE,
    MOST_BYTES,
    MOST_PIECES,
    PAD,
    START,
    UNKNOWN,
    Vocabulary,
    learn_tokeniser,
    load_tokeniser,
)
from regard.errors import DataError, RunError, SettingsError
from regard.padded import pad
from regard.settings import parse
from regard.tasks.generate import shift_right

TEXTS = ["the cat sat on 12 mats", "der Hund läuft 30 km", "猫が好き", "<s> and </s> are text", "один ٣ два"] * 20
SPECIAL = [
    "<s>",
    "</s>",
    "<unk>",
    "<pad>",
    "<2de>",
    "<0x41>",
    "▁",
    "\0",
    "\ufeff",
    "\u200b",
    "e\u0301",
    " ",
    "\n",
    "\t",
]
anything = strategies.one_of(
    strategies.text(max_size=40), strategies.lists(strategies.sampled_from([*SPECIAL, "cat", "7"])).map("".join)
)
steadily = hypothesis.settings(deadline=None, derandomize=True, max_examples=200)


def field_of(tags: list[str], split_digits: bool = False) -> TextField:
    return TextField(learn_tokeniser(TEXTS, Vocabulary(size=400, split_digits=split_digits), tags))


FIELDS = {"tags": field_of(["fr", "de"]), "digits": field_of([], split_digits=True)}


def spaced(text: str) -> str:
    """Runs of spaces count as one, and so does the sign that sentencepiece writes for a space."""
    return re.sub("[ ▁]+", " ", unicodedata.normalize("NFC", text)).strip(" ")


@pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
@steadily
@hypothesis.given(text=anything)
def test_any_text_comes_back(field: TextField, text: str) -> None:
    ids = field.encode(text)
    found = field.decode(ids)
    assert spaced(found) == spaced(text)
    if "▁" not in text:
        assert found == spaced(text)
    assert field.target({"target": text}) == [*ids, END]


@pytest.mark.parametrize("field", FIELDS.values(), ids=FIELDS)
@steadily
@hypothesis.given(text=anything)
def test_no_text_is_taken_for_a_control_token(field: TextField, text: str) -> None:
    ids = set(field.encode(text))
    assert not ids & {PAD, UNKNOWN, START, END, *field.tokeniser.tags.values()}
    assert all(0 <= one < len(field.tokeniser) for one in ids)


@steadily
@hypothesis.given(strategies.text(max_size=9), strategies.characters(categories=["Cs"]), strategies.text(max_size=9))
def test_half_a_character_is_refused(before: str, half: str, after: str) -> None:
    with pytest.raises(DataError, match="half a character in ") as caught:
        FIELDS["digits"].source({"source": f"{before}{half}{after}"})
    str(caught.value).encode()


def test_characters_never_seen_are_written_as_bytes() -> None:
    field = FIELDS["digits"]
    assert field.steps(field.encode("☃")) == ["▁", "<0xE2>", "<0x98>", "<0x83>"]
    assert len(set(field.encode("".join(map(chr, range(0x2600, 0x2640)))))) > 60


def test_one_form_of_a_letter() -> None:
    field = FIELDS["tags"]
    assert field.encode("la\u0308uft") == field.encode("läuft")
    assert field.encode("ﬁ") != field.encode("fi") and field.encode("Ａ") != field.encode("A")


def test_digits_of_every_script_stand_alone() -> None:
    pieces = FIELDS["digits"].steps(FIELDS["digits"].encode("12 mats 30٣"))
    assert all(len(piece.strip("▁")) <= 1 for piece in pieces if any(map(str.isdecimal, piece)))
    assert [piece.strip("▁") for piece in pieces if piece.strip("▁").isdecimal()] == ["1", "2", "3", "0", "٣"]


def test_han_characters_stand_alone() -> None:
    texts = ["我不知道汤姆在哪里。", "我不知道 Tom 在哪里", "汤姆不知道", "カメラを買った", "where is Tom"] * 20
    fields = [TextField(learn_tokeniser(texts, Vocabulary(size=340, split_han=apart))) for apart in (False, True)]
    joined, apart = ([piece.strip("▁") for piece in field.steps(field.encode(texts[0]))] for field in fields)
    assert "不知道" in "|".join(joined) and [piece for piece in apart if piece] == list(texts[0])
    for text in texts[:5]:
        assert fields[1].decode(fields[1].encode(text)) == text
    assert len(fields[1].encode(texts[4])) < len(texts[4])  # other scripts are not cut


def test_a_tag_comes_first() -> None:
    field = FIELDS["tags"]
    source = field.source({"source": "cat <2fr>", "tag": "de"})
    assert source == [field.tokeniser.tags["de"], *field.encode("cat <2fr>"), END]
    assert field.steps(source)[0] == "<2de>" and sorted(field.tokeniser.tags) == ["de", "fr"]


@pytest.mark.parametrize(
    ("field", "row", "told"),
    [
        ("tags", {"source": "cat"}, "needs a tag with every source: fr, de\n  give --tag TAG"),
        ("tags", {"source": "cat", "tag": "dee"}, "tag 'dee' was not seen in training\n  did you mean 'de'?"),
        ("tags", {"source": "cat", "tag": ""}, "tag '' was not seen in training\n  known: de, fr"),
        ("digits", {"source": "cat", "tag": "de"}, "tag 'de' was not seen in training\n  leave the tag out"),
    ],
)
def test_tags_that_are_refused(field: str, row: dict[str, str], told: str) -> None:
    with pytest.raises(DataError) as caught:
        FIELDS[field].source(row)
    assert str(caught.value).endswith(told)


def test_of_many_tags_a_few_are_named() -> None:
    field = field_of([f"x{number:02}" for number in range(63)])
    with pytest.raises(DataError) as caught:
        field.source({"source": "cat"})
    assert caught.value.message.endswith(": x00, x01, x02, x03, x04, x05, x06, x07, ...")


def test_vocabularies_are_learnt_alike_and_kept(tmp_path: Path) -> None:
    one, other = field_of(["fr", "de"]).tokeniser, FIELDS["tags"].tokeniser
    assert one.serialised == other.serialised
    (tmp_path / "vocabulary.model").write_bytes(one.serialised)
    kept = load_tokeniser(tmp_path / "vocabulary.model")
    assert (kept.serialised, kept.tags, len(kept)) == (one.serialised, one.tags, len(one))
    assert kept.encode("the cat läuft ☃") == one.encode("the cat läuft ☃")


def test_the_largest_vocabulary_can_be_read_again() -> None:
    word = "".join(map(chr, range(0x1F550, 0x1F550 + LONGEST_PIECE - 1)))  # four bytes each, after the space
    large = learn_tokeniser([word, word[::-1]] * 50, Vocabulary(size=400))
    assert max(map(len, large.pieces([*range(len(large))]))) == LONGEST_PIECE
    assert len(large.serialised) < len(large) * MOST_BYTES / MOST_PIECES
    with pytest.raises(SettingsError, match=r"'size'.* 200000, found 200001"):
        parse(Vocabulary, {"size": MOST_PIECES + 1}, "recipe.yaml")


@pytest.mark.parametrize("texts", [[], [""], [" ", "  "]])
def test_nothing_to_learn_from(texts: list[str]) -> None:
    with pytest.raises(DataError, match="no vocabulary could be learnt"):
        learn_tokeniser(texts, Vocabulary(size=300))


LOADS = """
import sys
from pathlib import Path
from regard.data.tokenisers import load_tokeniser
from regard.errors import RunError

for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        tokeniser = load_tokeniser(path)
        tokeniser.decode(tokeniser.encode("7 cats, <s> ☃")), tokeniser.decode(range(len(tokeniser)))
        print(path.name, "works", flush=True)
    except RunError as error:
        assert error.where == str(path) and error.hint and len(str(error)) < 600
        print(path.name, "refused", flush=True)
"""


def damaged(content: bytes, draw: random.Random) -> Iterator[bytes]:
    """What accidents and malice make of a vocabulary."""
    yield from (b"", b"\n", content[:-1], content * 2, b"\n" * 999, b"\n\xff\xff\xff\xff\x0f" + content)
    settings = content.rindex(b"\x1a\x0c\n\x08identity\x12\x00")
    for size in (4, 4096):  # rules of normalisation, for a machine that trusts the jumps in them
        rules = size.to_bytes(4, "little") + draw.randbytes(size + 9)
        yield content[:settings] + field_3(b"\n\x01x" + b"\x12" + varint(len(rules)) + rules)
    for _ in range(12):
        at = draw.randrange(len(content))
        yield content[:at]
        yield draw.randbytes(at)
        yield content[:at] + draw.randbytes(9) + content[at:]
        yield content[:at] + content[at + draw.randrange(1, 30) :]
        for place in (at, settings - draw.randrange(60)):
            yield content[:place] + bytes([content[place] ^ 1 << draw.randrange(8)]) + content[place + 1 :]


def field_3(part: bytes) -> bytes:
    """The settings of normalisation in the protocol buffer of a sentencepiece model."""
    return b"\x1a" + varint(len(part)) + part


def varint(number: int) -> bytes:
    return bytes([number % 128 | 128, number // 128])


def test_no_vocabulary_kills_the_process(tmp_path: Path) -> None:
    made = [*damaged(FIELDS["tags"].tokeniser.serialised, random.Random(1))]
    for number, content in enumerate(made):
        (tmp_path / f"{number:03}").write_bytes(content)
    environment = os.environ | {"PYTHONPATH": str(Path(regard.__file__).parents[1])}
    ended = subprocess.run(
        [sys.executable, "-c", LOADS, str(tmp_path)], env=environment, capture_output=True, text=True
    )
    found = ended.stdout.split("\n")[:-1]
    assert (ended.returncode, ended.stderr) == (0, ""), f"ended after {found[-1:]}"
    assert len(found) == len(made) == 80
    assert 5 < sum(line.endswith("works") for line in found) < 40


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (b"\x1a\x0c\n\x08identity\x12\x00", b"\x1a\x0c\n\x08", "not a sentencepiece model: "),
        (b"<pad>", b"<PAD>", "regard's: it does not begin with <pad> <unk> <s> </s>"),
        (b"</s>\x15\0\0\0\0\x18\x03", b"</s>\x15\0\0\0\0\x18\x01", "regard's: it does not begin with <pad>"),
        ("猫".encode(), b"\xe7\x8c\x20", "not a sentencepiece model: 'utf-8' codec can't decode"),
    ],
)
def test_a_vocabulary_that_is_not_ours_is_refused(old: bytes, new: bytes, told: str, tmp_path: Path) -> None:
    content = FIELDS["tags"].tokeniser.serialised
    assert old in content
    (tmp_path / "vocabulary.model").write_bytes(content.replace(old, new, 1))
    with pytest.raises(RunError) as caught:
        load_tokeniser(tmp_path / "vocabulary.model")
    assert told in str(caught.value) and "\n  fetch the whole folder again" in str(caught.value)
    assert caught.value.where == str(tmp_path / "vocabulary.model")


rows = strategies.lists(
    strategies.lists(strategies.integers(4, 99), max_size=6).map(lambda ids: [*ids, END]), min_size=1
)


@steadily
@hypothesis.given(rows)
def test_each_token_is_written_knowing_those_before_it(targets: list[list[int]]) -> None:
    target = pad(targets)
    known = shift_right(target)
    assert torch.equal(known.lengths, target.lengths) and known.values.shape == target.values.shape
    for row, ids in enumerate(targets):
        assert known.values[row, : len(ids)].tolist() == [START, *ids[:-1]]
