"""From files as people have them to rows: what is read, what is dropped, what stops, and what is said about it."""

import gzip
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NoReturn

import pytest

from regard.data import lines, splitting
from regard.data.columns import Columns, choose_columns
from regard.data.corpus import Corpus
from regard.data.pairs import Files, read_as, read_rows
from regard.data.recognition import recognise, recognise_files
from regard.data.rows import Row, TextRows
from regard.data.splitting import source_hashes
from regard.data.tables import Table, read_table
from regard.errors import DataError

Write = Callable[[str, str | bytes], str]

ANIMALS = "cat dog cow hen fox owl bee ant elk emu yak cod eel rat bat pig ape hog ram doe".split()
PAIRS = [(f"a {one} and a {other}", f"{other} {one}") for one in ANIMALS for other in ANIMALS]
REVIEWS = [(f"seen {number} times", ("bad", "good")[number % 2]) for number in range(60)]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, content: str | bytes) -> str:
        data = content if isinstance(content, bytes) else content.encode()
        path = tmp_path / name
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
        return str(path)

    return write


def tsv(rows: Iterable[tuple[str, ...]]) -> str:
    return "".join("\t".join(row) + "\n" for row in rows)


def read(*paths: str) -> Table:
    return read_table([Path(path) for path in paths])


def table_of(rows: list[tuple[str, ...]], columns: tuple[str, ...] = ("1", "2")) -> Table:
    return Table("pairs.tsv", columns, columns[0] != "1", rows, Counter(), lambda _: iter(rows))


def expect(call: Callable[[], object], *parts: str) -> None:
    """A DataError that says all of this."""
    with pytest.raises(DataError) as caught:
        call()
    for part in parts:
        assert part in str(caught.value)


FORMS = {
    "pairs.tsv": "ein Hund\ta dog\neine Katze\ta cat\n",
    "pairs.csv": '"ein Hund",a dog\r\neine Katze,"a cat"\r\n',
    "pairs.jsonl": '{"1": "ein Hund", "2": "a dog"}\n{"1": "eine Katze", "2": "a cat"}\n',
}


@pytest.mark.parametrize("ending", ["", ".gz"])
@pytest.mark.parametrize("name", FORMS)
def test_every_form_gives_the_same_rows(write: Write, name: str, ending: str) -> None:
    table = read(write(name + ending, FORMS[name]))
    assert table.rows == [("ein Hund", "a dog"), ("eine Katze", "a cat")]
    assert table.columns == ("1", "2")
    assert table.named == name.endswith("jsonl")
    assert not table.dropped


@pytest.mark.parametrize(
    ("names", "columns", "named"),
    [
        (("train.de", "train.en"), ("de", "en"), True),
        (("train.de.txt", "train.en.txt.gz"), ("de", "en"), True),
        (("src.txt", "tgt.txt"), ("src", "tgt"), True),
        (("lc.norm.de.gz", "lc.norm.en.gz", "lc.norm.fr.gz"), ("de", "en", "fr"), True),
    ],
)
def test_aligned_files_name_their_columns(
    write: Write, names: tuple[str, ...], columns: tuple[str, ...], named: bool
) -> None:
    table = read(*[write(name, f"one {name}\n\nthree {name}\n") for name in names])
    assert (table.columns, table.named) == (columns, named)
    assert table.rows[0] == tuple(f"one {name}" for name in names)
    assert table.rows[1] == ("",) * len(names)


def test_files_of_one_name_are_numbered(write: Write, tmp_path: Path) -> None:
    for folder in ("de", "en"):
        (tmp_path / folder).mkdir()
    table = read(write("de/train.txt", "Hund\n"), write("en/train.txt", "dog\n"))
    assert (table.columns, table.named, table.rows) == (("1", "2"), False, [("Hund", "dog")])


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-be-bom"])
def test_encodings(write: Write, encoding: str) -> None:
    text = "猫\tcat 🐈\n犬\tdog\n"
    content = b"\xfe\xff" + text.encode("utf-16-be") if encoding.endswith("bom") else text.encode(encoding)
    assert read(write("pairs.tsv", content)).rows == [("猫", "cat 🐈"), ("犬", "dog")]


def test_only_a_line_feed_ends_a_line(write: Write) -> None:
    odd = "a\u2028b\x0bc\x85d\re"
    for name in ("pairs.tsv", "pairs.csv"):
        cell = odd if name == "pairs.tsv" else f'"{odd}"'
        separator = "\t" if name == "pairs.tsv" else ","
        table = read(write(name, f"{cell}{separator}x\r\ny{separator}z\n"))
        assert table.rows == [(odd, "x"), ("y", "z")]
    assert read(write("pairs.tsv", "\ra\tb\r\r\n")).rows == [("\ra", "b\r")]


def test_quotes_are_characters_in_tsv_and_quoting_in_csv(write: Write) -> None:
    assert read(write("pairs.tsv", '"ein\t5" disk"\nb\tc\n')).rows[0] == ('"ein', '5" disk"')
    table = read(write("pairs.csv", '"a, ""b""\nc","=SUM(A1:A9)"\nd,e\n'))
    assert table.rows == [('a, "b"\nc', "=SUM(A1:A9)"), ("d", "e")]


@pytest.mark.parametrize(
    ("first", "rest", "named"),
    [
        ("Source,Target", "a,b\nc,d\n", True),
        ("en,de-AT", "a,b\nc,d\n", True),
        ("原文,译文", "猫,cat\n犬,dog\n", True),
        ("review,stars", "nice,5\npoor,1\nfine,3\n", True),
        ("text,a tale", "a,b\nc,d\n", False),
        ("sentence,sentence", "a,b\nc,d\n", False),
        ("en,de", "fr,de\nen,fr\n", False),
        ("nice,5", "poor,1\nfine,3\ngood,4\n", False),
    ],
)
def test_a_first_line_is_a_header_only_if_it_reads_like_one(write: Write, first: str, rest: str, named: bool) -> None:
    table = read(write("pairs.csv", f"{first}\n{rest}"))
    assert table.named == named
    assert table.columns == (tuple(first.split(",")) if named else ("1", "2"))
    assert len(table.rows) == rest.count("\n") + (not named)


def test_bad_rows_are_dropped_whole_and_counted(write: Write) -> None:
    table = read(write("pairs.tsv", "a\tA\nb\nc\tC\tx\n\n   \nd\tD\n"))
    assert table.rows == [("a", "A"), ("d", "D")]
    assert table.dropped == {"wrong number of columns": 2, "blank line": 2}


def test_bad_json_lines_are_dropped_with_a_reason(write: Write) -> None:
    lines = [
        '{"source": "a", "target": 1.50}',
        '{"source": "b", "target": NaN}',
        '{"source": "b", "target": "c", "target": "d"}',
        "[" * 100_000,
        '{"source": "b"}',
        '{"source": "b", "target": ["c"]}',
        '{"source": "b", "target": "\\ud800"}',
        '["b", "c"]',
        "",
        "not JSON",
        '{"translation": {"source": "e", "target": null}}',
        f'{{"source": "f", "target": {"9" * 5000}}}',
    ]
    table = read(write("pairs.jsonl", "\n".join(lines)))
    assert table.rows == [("a", "1.50"), ("b", ""), ("b", ""), ("e", ""), ("f", "9" * 5000)]
    assert table.dropped == {
        "NaN is not JSON": 1,
        "a key given twice": 1,
        "nested too deeply": 1,
        "NUL or half a character": 1,
        "not a JSON object": 1,
        "blank line": 1,
        "not JSON": 1,
    }


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("empty.tsv", "", ["empty.tsv: the file is empty"]),
        ("bom.tsv", b"\xef\xbb\xbf", ["the file is empty"]),
        ("blank.tsv", "\n \n", ["nothing but blank lines"]),
        ("latin.tsv", b"a\tb\nc\tcaf\xe9\n", ["latin.tsv:2", "byte 0xe9 after 5 characters", "not UTF-8", "iconv"]),
        ("half.tsv", "a\tb\nc".encode("utf-16") + b"\xff", ["half.tsv:2", "0xff", "not UTF-16"]),
        ("nul.tsv", "a\tb\nc\tx\0y\n", ["nul.tsv:2", "NUL byte after 3 characters"]),
        ("utf16.tsv", "a\tb\n".encode("utf-16-le"), ["utf16.tsv:1", "NUL", "byte order mark"]),
        ("one.tsv", "a\nb\n", ["one.tsv", "one column: which is the other side?", "tabs"]),
        ("open.csv", 'a,b\n\nc,"d\ne,f\n', ["open.csv:3", "not CSV", 'write "" for a quote']),
        ("after.csv", 'a,b\nc,"d"e\n', ["after.csv:2", "not CSV"]),
        ("bad.jsonl", "{\n}\n", ["bad.jsonl", "no line can be used: 2 not JSON", "one object"]),
    ],
)
def test_files_that_stop(write: Write, name: str, content: str | bytes, parts: list[str]) -> None:
    path = write(name, content)
    expect(lambda: read(path), *parts)


def test_paths_that_stop(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expect(lambda: read(str(tmp_path / "pairs.tsv")), "no such file", f"looked in {tmp_path}")
    expect(lambda: read(str(tmp_path)), "a folder, not a file")
    os.mkfifo(tmp_path / "pipe.tsv")
    expect(lambda: read(str(tmp_path / "pipe.tsv")), "a device or pipe")
    path = write("pairs.tsv", "a\tb\n")
    expect(lambda: read(path, path), "2 files", "train.en train.de")

    def refuse(*_: object) -> NoReturn:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", refuse)
    expect(lambda: read(path), "cannot be read: Permission denied", "check its permissions")


def test_damaged_and_huge_gzip(write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = gzip.compress(tsv(PAIRS).encode())
    for name, content in (("cut", whole[:-20]), ("text", b"a\tb\n"), ("flipped", whole[:50] + b"\0\0\0" + whole[53:])):
        (tmp_path / f"{name}.tsv.gz").write_bytes(content)
        expect(lambda name=name: read(str(tmp_path / f"{name}.tsv.gz")), f"{name}.tsv.gz: damaged or not gzip")
    bomb = write("bomb.tsv.gz", b"a\t" + b"b" * 4_000_000)
    assert len(read(bomb).rows[0][1]) == 4_000_000
    monkeypatch.setattr(lines, "MOST_BYTES", 1_000_000)
    expect(lambda: read(bomb), "inflates to more than 1,000,000 bytes", "decompress it first")


def test_unequal_line_counts_name_both(write: Write) -> None:
    paths = [write("train.en", "a\nb\n"), write("train.de", "a\nb\nc\n")]
    expect(lambda: read(*paths), "train.en has 2", "train.de has 3")


@pytest.mark.parametrize(
    ("columns", "flags", "chosen"),
    [
        (("1", "2"), (None, None, None), ("1", "2", None)),
        (("de", "en"), (None, None, None), ("de", "en", None)),
        (("tgt", "src"), (None, None, None), ("src", "tgt", None)),
        (("label", "text"), (None, None, None), ("text", "label", None)),
        (("lang", "text"), (None, None, None), ("text", "lang", None)),
        (("locale", "output", "input"), (None, None, None), ("input", "output", "locale")),
        (("word", "form", "locale"), (None, None, None), ("word", "form", "locale")),
        (("source", "target", "lang"), (None, "lang", None), ("source", "lang", None)),
        (("1", "2", "3"), ("3", "1", "2"), ("3", "1", "2")),
        (("en", "de"), (None, "en", None), ("de", "en", None)),
    ],
)
def test_names_decide_before_place(
    columns: tuple[str, ...], flags: tuple[str | None, ...], chosen: tuple[str | None, ...]
) -> None:
    table = table_of([tuple(columns)], columns)
    assert choose_columns(table, *flags) == Columns(*chosen)


def test_columns_that_cannot_be_chosen() -> None:
    three = table_of([("a", "b", "c")], ("en", "de", "fr"))
    expect(lambda: choose_columns(three, None, None, None), "3 columns of text: en, de, fr", "--source en --target de")
    expect(lambda: choose_columns(three, "eng", "de", None), "--source: no column 'eng'", "did you mean 'en'?")
    expect(lambda: choose_columns(three, "1", "4", None), "--target: no column '4'")
    expect(lambda: choose_columns(three, "en", "en", None), "one column cannot be two")
    wide = table_of([("x",) * 900], tuple(str(number) for number in range(1, 901)))
    expect(lambda: choose_columns(wide, None, None, None), "900 columns of text: 1, 2, 3, 4, 5, 6, 7, 8, ...\n")


TAGGED = "EU B\nrejects O\n.  O\n\nPeter B\nwent O\nhome O\n\nhe O\nslept O\n"
SERIES_OF_TWO = "".join(f"2024-01-{day:02},{name},{day}.5\n" for name in ("tea", "rice") for day in range(1, 29))
SERIES = "date,price\n" + "".join(f"2024-01-{day:02},{day}.5\n" for day in range(1, 29))


@pytest.mark.parametrize(
    ("name", "content", "verb"),
    [
        ("pairs.tsv", tsv(PAIRS), "generate"),
        ("pairs.tsv", tsv(REVIEWS), "classify"),
        ("pairs.tsv", tsv([(label, text) for text, label in REVIEWS]), "classify"),
        ("pairs.tsv", tsv(REVIEWS[:10]), "generate"),
        ("pairs.tsv", "source\ttarget\n" + tsv(REVIEWS), "generate"),
        ("some.tsv", "id\ttext\tlabel\n" + tsv([("7", *row) for row in REVIEWS]), "classify"),
        ("some.tsv", "text\tlabel\tsplit\n" + tsv([(*row, "train") for row in REVIEWS]), "classify"),
        ("some.tsv", "date\ttext\tlabel\n" + tsv([("2024-01-31", *row) for row in REVIEWS]), "classify"),
        ("some.tsv", "en\tde\tcategory\n" + tsv([(*row, "news") for row in PAIRS]), "generate"),
        ("names.tsv", tsv([(text.replace(" ", "-"), label) for text, label in REVIEWS]) + "\n", "classify"),
        ("train.conll", TAGGED, "tag"),
        ("train.tsv", TAGGED.replace(".  ", ". ").replace(" ", "\t"), "tag"),
        ("poem.txt", "one two\n\nthree four\n\nfive six\n\nseven eight\n", "continue"),
        ("prices.csv", SERIES, "forecast"),
        ("sales.csv", "date,category,price\n" + SERIES_OF_TWO, "forecast"),
        ("squad.json", json.dumps({"data": [{"paragraphs": [{"context": "c", "qas": []}]}]}, indent=1), "extract"),
        ("sounds.tsv", tsv([(f"{number}.WAV", f"word {number}") for number in range(9)]), "transcribe"),
        ("pictures.tsv", tsv([(f"{number}.png", f"word {number}") for number in range(9)]), "generate"),
        ("pictures.tsv", tsv([(f"{number}.jpg", "cat" if number % 2 else "dog") for number in range(40)]), "classify"),
    ],
)
def test_recognition(write: Write, name: str, content: str, verb: str) -> None:
    assert recognise_files([Path(write(name, content))]) == verb


def test_several_tables_are_as_the_first(write: Write) -> None:
    names = "a.jsonl", "b.jsonl"
    asked = [Path(write(name, '{"question": "q", "context": "c", "answers": ["c"]}\n')) for name in names]
    assert recognise_files(asked) == "extract"
    sides = [Path(write(name, "a line\n")) for name in ("train.en", "train.de")]
    assert recognise_files(sides) == "generate"


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("train.en", "a\nb\n", ["one column: which is the other side?", "train.en train.de"]),
        ("pairs.jsonl", '{"text": "a"}\n', ["one column"]),
        ("cmn.txt", tsv(PAIRS), ["a tab in its lines", "name the file .tsv", "--task continue"]),
        ("pairs.tsv", "on\toff\noff\ton\n" * 20, ["labels or pairs?", "--task classify or --task generate"]),
    ],
)
def test_what_fits_two_verbs_stops(write: Write, name: str, content: str, parts: list[str]) -> None:
    table = read(write(name, content))
    expect(lambda: recognise(table), *parts)


def test_a_label_is_the_target_wherever_it_stands(write: Write) -> None:
    path = write("pairs.tsv", tsv([(label, text) for text, label in REVIEWS]))
    assert {row["target"] for row in Files(train=(path,)).load().train} == {"bad", "good"}


def test_load_cleans_in_pairs_and_counts(write: Write) -> None:
    bad = [("", "x"), ("x", " "), ("...", "x"), ("x", "🙂"), ("x" * 51, "x"), ("x", "y" * 51), PAIRS[3], PAIRS[3]]
    loaded = Files(train=(write("pairs.tsv", tsv([*PAIRS, *bad])),), max_characters=50).load()
    assert sorted((row["source"], row["target"]) for row in (*loaded.train, *loaded.dev)) == sorted(PAIRS)
    assert loaded.dropped == {
        "empty source": 1,
        "empty target": 1,
        "no word in source": 1,
        "no word in target": 1,
        "source longer than 50 characters": 1,
        "target longer than 50 characters": 1,
        "duplicate": 2,
    }
    assert "'1' -> '2' (by position: no header)" in loaded.notes[0]
    assert f"{len(loaded.train)} pairs to train on, 8 dropped: 2 duplicate" in loaded.notes[1]
    assert f"{len(loaded.dev)} pairs to choose by" in loaded.notes[2]


SCRIPTS = [
    "  <s> </s> ▁ <tag:x>",
    "مرحبا بالعالم",
    "e\u0301 a\u0308",
    "zero\u200bwidth",
    "раураl",
    "👩‍👩‍👧 family",
    "हिन्दी",
    "½",
]


def test_any_script_and_special_text_stays_as_it_is(write: Write) -> None:
    pairs = [(text, f"row {number} \U0001f600") for number, text in enumerate(SCRIPTS)]
    loaded = Files(train=(write("pairs.tsv", tsv(pairs)),)).load()
    assert {row["source"] for row in [*loaded.train, *loaded.dev]} == {text.strip() for text in SCRIPTS}
    assert not loaded.dropped


def test_a_line_of_ten_megabytes(write: Write) -> None:
    for name, separator in (("pairs.tsv", "\t"), ("pairs.csv", ",")):
        text = f"a{separator}b\nc{separator}{'d' * 10_000_000}\ne{separator}f\n"
        loaded = Files(train=(write(name, text),)).load()
        assert len([*loaded.train, *loaded.dev]) == 2
        assert loaded.dropped == {"target longer than 2000 characters": 1}


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("a\tb\n", ["1 usable pair: not enough"]),
        ("source\ttarget\n", ["0 usable pairs: not enough"]),
        ("a\tb\n" * 9, ["1 usable pair", "8 duplicate"]),
        ("...\tb\na\t \n", ["0 usable pairs", "1 no word in source", "1 empty target"]),
        (tsv([(source, "same") for source, _ in PAIRS]), ["every target is 'same'"]),
        (tsv([("Same", target) for _, target in PAIRS]), ["every source is 'Same'"]),
        ("A  b\tx\na b\ty\n", ["every source is 'A  b'"]),
    ],
)
def test_data_that_cannot_be_right_stops(write: Write, text: str, parts: list[str]) -> None:
    path = write("pairs.tsv", text)
    expect(lambda: Files(train=(path,)).load(), "pairs.tsv", *parts)


def test_sources_of_dev_and_test_leave_training(write: Write) -> None:
    dev, test = [(source.upper(), target) for source, target in PAIRS[:5]], PAIRS[4:12]
    files = Files(
        train=(write("train.tsv", tsv(PAIRS)),),
        dev=(write("dev.tsv", tsv(dev)),),
        test=(write("test.tsv", tsv([*test, ("again", ""), ("", "lost")])),),
    )
    loaded = files.load()
    assert [row["source"] for row in loaded.train] == [source for source, _ in PAIRS[12:]]
    assert [row["source"] for row in loaded.test] == [*(source for source, _ in test), "again"]
    assert loaded.dropped == {"also in test": 8, "also in dev": 4, "empty source": 1}
    assert loaded.notes[2] == "5 pairs to choose by (as given); 9 to test on"


def test_dev_columns_follow_those_of_training(write: Write) -> None:
    train = (write("train.en", "one\ntwo\nthree\n"), write("train.de", "eins\nzwei\ndrei\n"))
    backwards = (write("val.de", "vier\n"), write("val.en", "four\n"))
    unnamed = (write("val.tsv", "four\tvier\n"),)
    for dev in (backwards, unnamed):
        assert Files(train=train, dev=dev).load().dev[:] == [{"source": "four", "target": "vier"}]


def test_evaluation_keeps_every_row_in_order(write: Write) -> None:
    text = "target\tsource\tlang\nB\tb\tx\n\tc\ty\nB\tb\tx\n!\t!\tx\nA\t \tx\n"
    rows, notes = read_rows([write("test.tsv", text)], None, None, None)
    assert [tuple(row.values()) for row in rows] == [("b", "B", "x"), ("c", "", "y"), ("b", "B", "x"), ("!", "!", "x")]
    assert notes == ("left out: 1 empty source",)
    path = write("none.tsv", "source\ttarget\n \tx\n")
    expect(lambda: read_rows([path], None, None, None), "none.tsv: no row with a source")


def rows_from(pairs: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"source": source, "target": target} for source, target in pairs]


def split(rows: list[dict[str, str]], most: int) -> tuple[list[Row], list[Row]]:
    train, dev = splitting.split(TextRows.of(rows), source_hashes(rows), most)
    return list(train), list(dev)


def test_split_keeps_equal_sources_together() -> None:
    rows = rows_from([*PAIRS, *((f" {source.upper()} ", "other") for source, _ in PAIRS)])
    train, dev = split(rows, 1000)
    assert len(train) + len(dev) == 800
    assert 15 <= len(dev) <= 65
    sides = [{" ".join(row["source"].lower().split()) for row in side} for side in (train, dev)]
    assert not sides[0] & sides[1]


def test_split_does_not_depend_on_order_or_on_other_rows() -> None:
    def held_out(pairs: list[tuple[str, str]], most: int = 1000) -> set[str]:
        return {row["source"] for row in split(rows_from(pairs), most)[1]}

    whole = held_out(PAIRS)
    assert held_out(PAIRS[::-1]) == whole
    assert held_out(PAIRS[:200]) == whole & {source for source, _ in PAIRS[:200]}
    few = held_out(PAIRS, 4)
    assert few < whole
    assert len(few) == 4


@pytest.mark.parametrize("count", range(2, 30))
def test_split_leaves_a_row_on_both_sides(count: int) -> None:
    train, dev = split(rows_from(PAIRS[:count]), 1)
    assert len(dev) == 1
    assert len(train) == count - 1


def test_split_never_takes_the_last_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(splitting, "DEV_SHARE", 1)
    train, dev = split(rows_from(PAIRS), 1000)
    assert (len(train), len(dev)) == (1, len(PAIRS) - 1)


def test_fingerprint_knows_every_row_and_its_side() -> None:
    rows = rows_from(PAIRS[:3])
    sides = [rows, rows[:1], []]
    others = [[rows[:2], rows[:1], []], [rows, [], rows[:1]], [rows[::-1], rows[:1], []]]

    def found(sides: list[list[dict[str, str]]]) -> str:
        return Corpus(*(TextRows.of(side) for side in sides), ()).fingerprint

    assert found(sides) == found([list(side) for side in sides])
    assert len({found(side) for side in [sides, *others]}) == 4


def test_other_tables_are_read_by_the_columns_that_were_trained_on(write: Write) -> None:
    """Turned round by name, and a label that came first, which a short file does not show."""
    named = "en\tde\n" + "".join(f"the {word}\tdas {word}\n" for word in "house car book pen cat".split())
    turned = Files(train=(write("t.tsv", named),), source="de", target="en")
    assert read_as(turned, [write("u.tsv", "en\tde\na dog\tein Hund\n")], None, None, None).rows == [
        {"source": "ein Hund", "target": "a dog"}
    ]
    assert read_as(turned, [write("v.tsv", "en\tde\na dog\tein Hund\n")], "en", "de", None).rows[0]["source"] == "a dog"
    aligned = [write("x.src", "ein Hund\n"), write("x.tgt", "a dog\n")]
    assert read_as(turned, aligned, None, None, None).rows == [{"source": "ein Hund", "target": "a dog"}]
    expect(lambda: read_as(turned, [write("o.tsv", "de\tnl\nein\teen\n")], None, None, None), "no column 'en'")
    spam = "".join(f"{'spam' if row % 3 else 'ham'}\tmessage number {row} of many\n" for row in range(60))
    found = Files(train=(write("s.tsv", spam),), labels=True).found_in(read_table([Path(write("s.tsv", spam))]))
    assert (found.source, found.target) == ("2", "1")
    assert read_as(found, [write("w.tsv", "ham\tone\nham\ttwo\n")], None, None, None).rows[1] == {
        "source": "two",
        "target": "ham",
    }


def test_a_rare_label_is_not_held_out(write: Write) -> None:
    rows = [(f"text number {row} of many", f"rare{row}" if row % 4 == 0 else "good") for row in range(200)]
    loaded = Files(train=(write("l.tsv", tsv(rows)),), labels=True).load()
    assert {row["target"] for row in loaded.dev} == {"good"} and len(loaded.train) + len(loaded.dev) == 200
    every = Files(train=(write("e.tsv", tsv([(text, f"{text}!") for text, _ in rows])),), labels=True)
    expect(every.load, "every row that could be held out has a label or tag of its own")
