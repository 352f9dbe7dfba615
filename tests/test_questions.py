"""Questions from files of every form, and between their characters and the pieces that a model reads."""

import gzip
import json
import lzma
import os
import unicodedata
from pathlib import Path

import pytest

from regard.api import propose
from regard.data.babi import Babi
from regard.data.fields import TextField
from regard.data.questions import Questions
from regard.data.rows import TextRows
from regard.data.spans import Span, locate, places_of, spans_of_answer
from regard.data.tokenisers import Vocabulary
from regard.errors import DataError
from regard.metrics.spans import span_scores
from small_questions import PASSAGE, ROWS, SMALL, questions, write

SQUAD = {
    "version": "1.1",
    "data": [
        {
            "title": "Places",
            "paragraphs": [
                {
                    "context": PASSAGE,
                    "qas": [
                        {"id": "1", "question": "Where is John?", "answers": [{"text": "garden", "answer_start": 16}]},
                        {"id": "2", "question": "Where is Anna?", "answers": []},
                        {
                            "id": "3",
                            "question": "Where is Mary?",
                            "answers": [
                                {"text": " attic", "answer_start": 38},
                                {"text": "the attic", "answer_start": 35},
                                {"text": "attic", "answer_start": 39},
                            ],
                        },
                    ],
                }
            ],
        }
    ],
}


def forms(folder: Path) -> dict[str, str]:
    """The same two questions in every form there is."""
    first, second = (
        {"context": PASSAGE, "question": "Where is John?", "answers": {"text": ["garden"], "answer_start": [16]}},
        {"passage": PASSAGE, "question": "Where is Mary?", "answers": ["attic", "the attic"], "starts": [39, 35]},
    )
    (folder / "squad.json").write_text(json.dumps(SQUAD, indent=1))
    (folder / "list.json").write_text(json.dumps([first, second]))
    with gzip.open(folder / "lines.jsonl.gz", "wt") as stream:
        stream.write(f"{json.dumps(first)}\n\n{json.dumps(second)}\n")
    return {name: str(folder / name) for name in ("squad.json", "list.json", "lines.jsonl.gz")}


@pytest.mark.parametrize("name", ["squad.json", "list.json", "lines.jsonl.gz"])
def test_every_form_of_a_file(tmp_path: Path, name: str) -> None:
    path = forms(tmp_path)[name]
    other = write(tmp_path / "other.jsonl", questions(5, 1))
    corpus = Questions(train=(other,), test=(path,)).load()
    assert corpus.test[:] == ROWS
    assert corpus.dropped == ({"no answer": 1} if name == "squad.json" else {})


def test_a_table_has_answers_without_places(tmp_path: Path) -> None:
    path = tmp_path / "rows.tsv"
    rows = [f"{one['question']}\t{one['context']}\t{one['answers'][0]}\n" for one in questions(30, 1)]
    path.write_text("question\tpassage\tanswer\n" + "".join(rows))
    _, plan = propose(str(path), out=tmp_path / "run", settings=SMALL)
    assert plan.recipe.task.kind == "extract" and {row["start"] for row in plan.corpus.train} == {""}


def test_faults_are_counted_and_named(tmp_path: Path) -> None:
    good, again, fresh = questions(3, 1)
    faulty = [
        {**good, "question": " "},
        {**good, "context": ""},
        good,
        good,
        {**again, "starts": [0]},
        {**again, "question": "Who?", "answers": ["nobody"]},
        {**again, "question": "What?", "answers": []},
        fresh,
    ]
    path = tmp_path / "faulty.jsonl"
    write(path, faulty)
    path.write_text(path.read_text() + "[1]\nnot JSON\n")
    corpus = Questions(train=(str(path),), dev=(write(tmp_path / "dev.jsonl", [fresh]),)).load()
    assert corpus.dropped == {
        "empty question": 1,
        "empty passage": 1,
        "duplicate": 1,
        "answer not in its passage": 1,
        "no answer": 1,
        "also in dev or test": 1,
        "not a JSON object": 2,
    }
    [_, moved] = corpus.train
    assert moved["start"] == str(again["starts"][0])
    notes = " ".join(corpus.notes)
    assert "faulty.jsonl, line 6 ('nobody')" in notes and "1 questions with an answer elsewhere" in notes
    assert "found by its text: " in notes and notes.endswith("faulty.jsonl, line 5")


def test_no_passage_is_on_both_sides(tmp_path: Path) -> None:
    rows = [{**one, "question": f"{one['question']} {n}"} for one in questions(60, 1) for n in range(3)]
    corpus = Questions(train=(write(tmp_path / "rows.jsonl", rows),)).load()
    sides = [{row["passage"] for row in side} for side in (corpus.train, corpus.dev)]
    assert sides[0] & sides[1] == set() and len(corpus.train) + len(corpus.dev) == 180 and len(corpus.dev) >= 3


def test_files_without_questions_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", [{"source": "a", "target": "b"}] * 3)
    with pytest.raises(DataError, match="no usable question: 3 empty passage"):
        Questions(train=(path,)).load()
    lonely = write(tmp_path / "one.jsonl", questions(1, 1))
    with pytest.raises(DataError, match="1 usable questions"):
        Questions(train=(lonely,)).load()


STORY = """1 Mary moved to the garden.
2 John went to the garden.
3 Where is Mary? \tgarden\t1
4 Mary is with cats.
5 Is Mary there?\tcat\t4
1 Anna went to the attic.
2 Where is Anna?\tattic\t1
"""


def test_babi_is_read(tmp_path: Path) -> None:
    (tmp_path / "en").mkdir()
    (tmp_path / "en-10k").mkdir()
    for name in ("train", "test"):
        (tmp_path / "en" / f"qa1_single_{name}.txt").write_text(STORY)
    (tmp_path / "en-10k" / "qa1_single_train.txt.xz").write_bytes(lzma.compress(STORY.encode() * 2))
    corpus = Babi(folder=str(tmp_path), tasks=(1,)).load()
    [first] = corpus.train
    assert corpus.dropped == {"answer of qa1 not in its story": 2}
    assert first["passage"] == "Mary moved to the garden. John went to the garden." and first["tag"] == "qa1"
    assert spans_of_answer(first["target"], first["start"], first["passage"]) == [(18, 24), (43, 49)]
    assert [row["source"] for row in corpus.dev] == ["Where is Anna?"] and len(corpus.test) == 2
    assert len(Babi(folder=str(tmp_path), size="10k", tasks=(1,)).load().train) == 3
    with pytest.raises(DataError, match="no file en/qa2"):
        Babi(folder=str(tmp_path), tasks=(2,)).load()
    (tmp_path / "en" / "qa1_single_train.txt").write_text("Mary moved\n")
    with pytest.raises(DataError, match="not a line of bAbI"):
        Babi(folder=str(tmp_path), tasks=(1,)).load()


@pytest.fixture(scope="module")
def chars() -> TextField:
    texts = [
        "Mary is in the garden of the café .",
        "战国无双 系列 的 正统 续作",
        "John went to the kitchen , twice",
    ] * 30
    return TextField.learn(TextRows.of({"source": text} for text in texts), Vocabulary(size=420), ["source"])


COMPOSED = "café"
HARD = [
    "Mary is in the garden of the café.",
    "  two  blanks   and\ttabs ",
    unicodedata.normalize("NFD", "Le café et la forêt à Đà Nẵng, 각하"),
    "가" + unicodedata.normalize("NFD", "각") + "ᆨ",
    "《战国无双3》是由光荣和ω-force开发的𝒳 😀👍🏽 ▁sign <0x41> </s>",
    "x\u0315\u0300\u05ae\u0062 \u0344",
]


@pytest.mark.parametrize("text", HARD)
def test_pieces_know_their_characters(chars: TextField, text: str) -> None:
    located = locate(chars, text)
    assert located.ids == chars.encode(text)
    assert located.begins == sorted(located.begins) and located.ends == sorted(located.ends)
    for piece, begin, end in zip(chars.steps(located.ids), located.begins, located.ends, strict=True):
        written = piece.lstrip("▁").replace("\ufdd0", "▁")
        if not piece.startswith("<0x"):
            assert unicodedata.normalize("NFC", text[begin:end]) == unicodedata.normalize("NFC", written) or (
                written in unicodedata.normalize("NFC", text[begin:end])  # one of several that compose together
            )
    covered = {place for begin, end in zip(located.begins, located.ends, strict=True) for place in range(begin, end)}
    assert {place for place, character in enumerate(text) if character != " "} <= covered


@pytest.mark.parametrize("text", HARD)
def test_spans_come_back(chars: TextField, text: str) -> None:
    """A span that begins and ends where pieces do is found again; any other within its pieces."""
    located = locate(chars, text)
    for begin in range(len(text)):
        for end in range(begin + 1, min(begin + 9, len(text)) + 1):
            if text[begin] == " " or text[end - 1] == " ":
                continue
            span = located.span_of(*located.pieces_of(Span(begin, end)))
            assert span.begin <= begin and end <= span.end
            if begin in located.begins and end in located.ends:
                assert unicodedata.is_normalized("NFC", text) is False or span == (begin, end)


def test_answers_are_found_as_words_first() -> None:
    assert places_of("cat", "cats and a cat, cat") == [Span(11, 14), Span(16, 19)]
    assert places_of("cat", "cats") == [Span(0, 3)]
    assert places_of("国", "中国人") == [Span(1, 2)] and places_of("", "x") == places_of("y", "x") == []
    assert spans_of_answer("cat", "0", "cats") == [Span(0, 3)]
    for start in ("1", "99", "-1", "one"):
        with pytest.raises(DataError, match=f"no answer 'cat' at character {start}"):
            spans_of_answer("cat", start, "cats")
    with pytest.raises(DataError, match="no answer 'dog' in"):
        spans_of_answer("dog", "", "cats")


DATA = Path(os.environ.get("REGARD_DATA", "/nowhere")) / "question_answering"


def needs(name: str) -> pytest.MarkDecorator:
    return pytest.mark.skipif(not (DATA / name).exists(), reason=f"REGARD_DATA names no folder with {name}")


@needs("cmrc2018")
def test_cmrc_is_read_as_its_readme_says() -> None:
    folder = DATA / "cmrc2018"
    files = Questions(train=(str(folder / "dev.jsonl.gz"),), test=(str(folder / "trial.jsonl.gz"),))
    corpus = files.load()
    assert len(corpus.test) + sum(map(len, (corpus.train, corpus.dev))) + corpus.dropped.total() == 3219 + 1002
    for row in corpus.test:
        assert row["passage"].startswith(row["target"], int(row["start"]))
    notes = " ".join(corpus.notes)
    assert "8 questions with an answer elsewhere" in notes and "174 questions with answers in other words" in notes


@needs("xquad")
@pytest.mark.parametrize(("language", "rules"), [("en", "squad1.1"), ("zh", "cmrc2018")])
def test_xquad_is_read_whole(language: str, rules: str) -> None:
    rows = Questions(train=("none",)).read_files([str(DATA / "xquad" / f"{language}.jsonl.gz")]).rows
    assert len(rows) == 1190 and all(row["passage"].startswith(row["target"], int(row["start"])) for row in rows)
    assert span_scores([row["target"] for row in rows], [[row["target"]] for row in rows]) == (100, 100, rules)


@needs("babi")
def test_every_answer_of_the_span_tasks_stands_in_its_story() -> None:
    corpus = Babi(folder=str(DATA / "babi"), tasks=(1, 2, 16)).load()
    assert not corpus.dropped and len(corpus.test) == 3000 and len(corpus.train) + len(corpus.dev) == 3000
