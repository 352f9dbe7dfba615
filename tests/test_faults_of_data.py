"""Files of data with something wrong, or only strange, in them: what the commands refuse and why, and what survives."""

import gzip
import io
import json
import os
import resource
import sys
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faulty_files import FILES, GOOD, PAIRS, STRANGE
from regard import predictor
from regard.cli.main import main
from regard.data import lines
from regard.data.pairs import read_rows
from regard.predictor import load
from small_runs import tree

Ran = tuple[int, str, str]
Regard = Callable[..., Ran]

TINY = ["model.width=16", "model.encoder.layers=1", "model.decoder.layers=1", "training.steps=2"]
SETTINGS = [f"--set={one}" for one in (*TINY, "training.precision=fp32", "batching.tokens=512")]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all files, what only looks like one, and a run."""
    place = tmp_path_factory.mktemp("place")
    for name, content in FILES.items():
        (place / name).write_bytes(content)
    (place / "folder.tsv").mkdir()
    for name, meant in {
        "link": "good.tsv",
        "dangling": "gone.tsv",
        "circle": "circle.tsv",
        "zero": "/dev/zero",
    }.items():
        (place / f"{name}.tsv").symlink_to(meant)
    assert main(["train", str(place / "strange.tsv"), "--out", str(place / "run"), "--quiet", *SETTINGS]) == 0
    return place


@pytest.fixture
def regard(place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Regard]:
    """Runs a command there, of which nothing may be left behind."""
    monkeypatch.chdir(place)
    monkeypatch.setattr(lines, "MOST_BYTES", 1 << 20)
    before = tree(place)

    def regard(*words: str, given: str = "") -> Ran:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
        status = main([*words, *(SETTINGS if words[0] == "train" else [])])
        return status, *capsys.readouterr()

    yield regard
    assert tree(place) == before and not (place.parent / "canary").exists()


def refusal(ran: Ran) -> str:
    """What is wrong and one fix, told as one JSON object and nothing else."""
    status, out, told = ran
    assert status == 2 and "Traceback" not in out + told
    [error] = [json.loads(line)["error"] for line in out.splitlines()]
    assert error["hint"], error
    return f"{error['where']}: {error['message']} | {error['hint']}"


def missing(told: str, found: str) -> list[str]:
    return [part for part in told.split(" | ") if part not in found]


UNREADABLE = {
    "gone.tsv": "gone.tsv: no such file | looked in",
    "dangling.tsv": "dangling.tsv: no such file | looked in",
    "circle.tsv": "circle.tsv: no such file",
    "../place/gone.tsv": "../place/gone.tsv: no such file",
    "good.tsv/gone.tsv": "no such file",
    "folder.tsv": "folder.tsv: this is a folder, not a file | name the data files themselves",
    "zero.tsv": "zero.tsv: this is a device or pipe, not a file",
    "empty.tsv": "empty.tsv: the file is empty | one pair a line",
    "empty.tsv.gz": "empty.tsv.gz: the file is empty",
    "blank_lines.tsv": "blank_lines.tsv: nothing but blank lines | tabs",
    "utf16_without_mark.tsv": "utf16_without_mark.tsv:1: | is not UTF-8",
    "latin1.tsv": "latin1.tsv:7: byte 0xc4 after 2 characters of this line is not UTF-8 | iconv -f latin1",
    "nul.tsv": "nul.tsv:41: a NUL byte after 3 characters | save it as UTF-8",
    "short.en long.de": "line counts differ: short.en has 2, long.de has 3 | nothing was paired",
    "one_column.tsv": "one column: which is the other side? | tabs",
    "open_quote.csv": "open_quote.csv:2: the row that begins here is not CSV | close every quote",
    "cut.tsv.gz": "cut.tsv.gz: damaged or not gzip | fetch it",
    "bomb.tsv.gz": "bomb.tsv.gz: inflates to more than 1,048,576 bytes | decompress it first",
    "climbs.tar.gz": "climbs.tar.gz:1: a NUL byte | no text file",
    "objects.npy": "objects.npy:1: byte 0x93 after 0 characters of this line is not UTF-8",
    "nan.jsonl": "nan.jsonl: no line can be used: 9 NaN is not JSON | each line is one object",
    "nested.jsonl": "nested.jsonl: no line can be used: 1 nested too deeply",
    "not_lines.json": "not_lines.json: no line can be used: | not JSON | each line is one object",
}


@pytest.mark.parametrize("verb", ["train --out new", "train --out new good.tsv --dev", "evaluate run"])
@pytest.mark.parametrize(("files", "told"), UNREADABLE.items(), ids=UNREADABLE)
def test_what_cannot_be_read_is_refused_with_a_fix(regard: Regard, verb: str, files: str, told: str) -> None:
    separator = " --dev " if verb.endswith("--dev") else " "
    found = refusal(regard(*f"{verb} {separator.join(files.split())} --json".split()))
    assert missing(told, found) == []


@pytest.mark.parametrize("ending", ["tsv", "tsv.gz"])
def test_what_may_not_be_read_is_refused(
    regard: Regard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, ending: str
) -> None:
    locked = tmp_path / f"locked.{ending}"
    locked.write_bytes(GOOD)

    def refuse(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:  # file modes do not bind whoever is root
        patch.setattr(*((gzip, "open") if ending.endswith("gz") else (Path, "open")), refuse)
        found = refusal(regard("train", str(locked), "--out", "new", "--json"))
    assert f"{locked}: cannot be read: Permission denied | check its permissions" in found


HOPELESS = {
    "good.tsv --dev only_long.tsv": "only_long.tsv: every row is longer than 2000 | raise data.max_characters",
    "three_columns.tsv": "3 columns of text: 1, 2, 3 | --source 1 --target 2",
    "one_pair.tsv": "one_pair.tsv: 1 usable pair: not enough to learn from",
    "one_pair_often.tsv": "1 usable pair: | dropped: 8 duplicate",
    "no_words.tsv": "0 usable pairs: | 3 no word in source",
    "good.tsv --dev good.tsv": "0 usable pairs: | 40 also in dev",
    "one_answer.tsv": "one_answer.tsv: every target is 'same'",
}


@pytest.mark.parametrize(("data", "told"), HOPELESS.items(), ids=HOPELESS)
def test_what_cannot_be_learnt_from_is_refused_with_a_fix(regard: Regard, data: str, told: str) -> None:
    assert missing(told, refusal(regard("train", *data.split(), "--out", "new", "--json"))) == []


ALL = "35 pairs to train on, 0 dropped | 5 pairs to choose by"
USABLE = {
    "mark.tsv": f"{ALL} | 'source' -> 'target' (named by the data)",
    "utf16.tsv": f"{ALL} | (named by the data)",
    "line_ends.tsv": f"{ALL} | (named by the data)",
    "in_fields.csv": "pairs to train on, 0 dropped",
    "unknown_header.tsv": "36 pairs to train on, 0 dropped | '1' -> '2' (by position: no header)",
    "duplicates.tsv": "35 pairs to train on, 40 dropped: 40 duplicate",
    "formulas.csv": "pairs to train on, 0 dropped",
    "quotes.tsv": "pairs to train on, 0 dropped",
    "too_long.tsv": "to train on, 1 dropped: 1 source longer than 2000 characters",
    "some_bad.jsonl": "35 pairs to train on, 3 dropped: 1 NaN is not JSON, 1 a key given twice, 1 nested too deeply",
    "good.tsv --dev some_dev.tsv": "30 pairs to train on, 10 dropped: 10 also in dev | 10 pairs to choose by (as",
    "good.tsv --dev long_dev.tsv": "11 dropped: 10 also in dev, 1 held-out row longer than 2000 characters | 10 pairs",
    "returns.csv": "pairs to train on, 0 dropped",
    "optional.jsonl": "36 pairs to train on, 0 dropped",
    "link.tsv": ALL,
    "folder.tsv/../good.tsv": ALL,
}


@pytest.mark.parametrize(("data", "told"), USABLE.items(), ids=USABLE)
def test_what_can_be_used_is_used_and_what_was_dropped_is_told(regard: Regard, data: str, told: str) -> None:
    status, _, found = regard("train", *data.split(), "--out", "new", "--dry-run")
    assert status == 0 and missing(told, found) == []


INTACT = {
    "in_fields.csv": ("{} apples\nx\u2028y\rz", "{} Äpfel"),
    "returns.csv": ("{} apples\rx", "{} Äpfel"),
    "formulas.csv": ("=A{} apples+1", "@{} apples-{} Äpfel"),
    "quotes.tsv": ('"{} apples', '{} Äpfel""'),
}


@pytest.mark.parametrize(("name", "forms"), INTACT.items(), ids=INTACT)
def test_cells_come_through_as_they_are(place: Path, name: str, forms: tuple[str, str]) -> None:
    found = {(row["source"], row["target"]) for row in read_rows([str(place / name)], None, None, None).rows}
    assert found == {(forms[0].format(number), forms[1].replace("{}", str(number))) for number in range(40)}


def test_a_line_of_ten_megabytes_is_dropped(regard: Regard, tmp_path: Path) -> None:
    (tmp_path / "huge.tsv").write_bytes(GOOD + b"a\t" + b"b" * 10_000_000)
    status, _, found = regard("train", str(tmp_path / "huge.tsv"), "--out", "new", "--dry-run")
    assert status == 0 and "35 pairs to train on, 1 dropped: 1 target longer than 2000 characters" in found


TAGS = {
    "only in dev": ("tagged.tsv --dev other_tag.tsv", 2, "tag 'it' was not seen in training | known: de, fr"),
    "only in test": ("tagged.tsv --test other_tag.tsv", 2, "tag 'it' was not seen in training | known: de, fr"),
    "missing in dev": ("tagged.tsv --dev no_tag.tsv", 2, "no_tag.tsv | no column with tags"),
    "rare and held out": ("rare_tag.tsv", 0, "run"),
}


@pytest.mark.parametrize(("data", "status", "told"), TAGS.values(), ids=TAGS)
def test_tags_are_known_before_training_begins(
    regard: Regard, tmp_path: Path, data: str, status: int, told: str
) -> None:
    found, out, _ = regard("train", *data.split(), "--out", str(tmp_path / "new"), "--json")
    assert (found, (tmp_path / "new").exists()) == (status, status == 0) and missing(told, out) == []


def test_a_tag_in_a_test_file_that_the_model_does_not_know(regard: Regard) -> None:
    assert "tag 'it' was not seen in training | leave the tag out" in refusal(
        regard("evaluate", "run", "other_tag.tsv", "--json")
    )


def test_strange_text_is_answered_line_by_line(regard: Regard) -> None:
    lines = [*STRANGE, "", "7 apples " * 300]
    for words in ([], ["--json"]):
        status, out, told = regard("predict", "run", "--max-length", "5", *words, given="\n".join(lines) + "\n")
        assert (status, told, out.count("\n")) == (0, "", len(lines))
    assert [bool(json.loads(line)["tokens"]) for line in out.split("\n")[:-1]] == [bool(line) for line in lines]
    status, out, _ = regard("evaluate", "run", "strange.tsv", "--max-length", "5", "--json")
    assert (status, json.loads(out)["rows"]) == (0, len(PAIRS) + len(STRANGE))


@pytest.mark.parametrize("text", STRANGE)
def test_strange_text_comes_back_out_of_the_vocabulary(regard: Regard, text: str) -> None:
    status, out, _ = regard("predict", "run", "--prefix", text, "--json", given="7 apples\n")
    assert status == 0 and json.loads(out)["text"].startswith(unicodedata.normalize("NFC", text))


def test_a_nul_byte_in_a_line_to_answer_is_refused(regard: Regard) -> None:
    assert "nul.tsv:41: a NUL byte" in refusal(regard("predict", "run", "nul.tsv", "--json"))


def test_an_endless_line_to_answer_is_refused(regard: Regard) -> None:
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 29), before[1]))
    try:
        ran = regard("predict", "run", "zero.tsv", "--json")
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    assert "zero.tsv" in refusal(ran)


def test_a_text_too_long_to_answer_is_refused(regard: Regard) -> None:
    assert refusal(regard("predict", "run", "--json", given="\n7\n" + "7 " * 50_001 + "\n")) == (
        "row 3: a text of 100,002 characters | cut it into parts of at most 100,000, better into sentences"
    )


def test_full_memory_is_no_fault_of_ours(regard: Regard, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 99 bytes")

    monkeypatch.setattr(predictor, "answer_rows", full)
    assert "memory is full | shorter texts" in refusal(regard("predict", "run", "--json", given="7 apples\n"))


RECIPES = {
    "python.yaml": "python.yaml: not plain YAML: | python/object/apply",
    "bomb.yaml": "bomb.yaml: not plain YAML: aliases are not allowed",
    "twice.yaml": "twice.yaml: not plain YAML: 'training' is given twice | line 1",
}


@pytest.mark.parametrize(("recipe", "told"), RECIPES.items(), ids=RECIPES)
def test_a_recipe_is_plain_data(regard: Regard, recipe: str, told: str) -> None:
    assert missing(told, refusal(regard("train", "--recipe", recipe, "--out", "new", "--json"))) == []


def test_in_a_recipe_no_is_a_word_and_figures_are_numbers(regard: Regard) -> None:
    status, out, _ = regard("train", "--recipe", "plain.yaml", "--dry-run", "--json")
    recipe = json.loads(out)["recipe"]
    assert (status, recipe["data"]["source"]) == (0, "no")
    assert recipe["training"]["optimisation"]["learning_rate"] == 1e-4


def test_columns_named_like_numbers_are_still_words_when_the_run_goes_on(regard: Regard, tmp_path: Path) -> None:
    run = str(tmp_path / "run")
    for _ in range(2):
        assert regard("train", "figures.jsonl", "--source", "08", "--target", "1e4", "--out", run)[0] == 0
    assert load(run).recipe.data.target == "1e4"


def test_a_file_name_that_is_not_utf8(regard: Regard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data, run = tmp_path / os.fsdecode(b"caf\xe9.tsv"), tmp_path / "run"
    data.write_bytes(GOOD)
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO()))
    monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(io.BytesIO(), errors="backslashreplace"))
    assert regard("train", str(data), "--out", str(run))[0] == 0
    assert "caf\\udce9.tsv" in (run / "README.md").read_text("utf-8")


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    "a row more": lambda data: data + b"50 apples\t50\n",
    "a row less": lambda data: data.partition(b"\n")[2],
    "one letter": lambda data: data.replace(b"3 apples", b"3 apple!", 1),
    "another order": lambda data: b"\n".join(data.split(b"\n")[::-1]),
    "nothing left": lambda data: b"",
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_run_does_not_go_on_with_other_data(regard: Regard, place: Path, change: str) -> None:
    data = place / "strange.tsv"
    data.write_bytes(CHANGES[change](FILES[data.name]))
    try:
        found = refusal(regard("train", str(data), "--out", "run", "--json"))
    finally:
        data.write_bytes(FILES[data.name])
    assert ("the file is empty" if change == "nothing left" else "the data has changed since this run began") in found
