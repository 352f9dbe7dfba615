"""Every verb by its command line alone: a plain file is planned and learnt without a setting, and refused if bad."""

import json
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from regard.cli.main import main
from test_audio import tone, wav

FEW = ["--set=model.width=16", "--set=training.steps=2", "--set=training.precision=fp32", "--quiet"]
WORDS = "one two three four five six seven eight".split()
Written = Callable[[Path], str]


def lines(path: Path, rows: list[str]) -> str:
    path.write_text("\n".join(rows) + "\n")
    return str(path)


def sentence(seed: int) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=6))


def reviews(folder: Path) -> str:
    rows = [f"{row}\t{sentence(row)}\t{('bad', 'good')[row % 2]}" for row in range(60)]
    return lines(folder / "reviews.tsv", ["id\ttext\tlabel", *rows])


def tagged(folder: Path) -> str:
    sentences = ["\n".join(f"{word} {'NB'[word == 'one']}" for word in sentence(row).split()) for row in range(60)]
    return lines(folder / "tagged.conll", ["\n\n".join(sentences)])


def questions(folder: Path) -> str:
    """SQuAD's form, indented as people do."""
    contexts = [sentence(row) for row in range(60)]
    answers = [{"text": one.split()[2], "answer_start": len(" ".join(one.split()[:2])) + 1} for one in contexts]
    qas = [{"question": f"third {row}?", "id": f"q{row}", "answers": [one]} for row, one in enumerate(answers)]
    paragraphs = [{"context": text, "qas": [one]} for text, one in zip(contexts, qas, strict=True)]
    (folder / "questions.json").write_text(json.dumps({"data": [{"paragraphs": paragraphs}]}, indent=2))
    return str(folder / "questions.json")


def book(folder: Path) -> str:
    return lines(folder / "book.txt", [sentence(row) for row in range(400)])


def series(folder: Path, steps: int = 300) -> str:
    rows = [f"2024年{1 + day // 28}月{1 + day % 28}日,{day % 7},{day**0.5:.3f}" for day in range(steps)]
    return lines(folder / "series.csv", ["日期,销量,heat", *rows])


def recordings(folder: Path) -> str:
    rows = ["path\ttext"]
    for row in range(30):
        (folder / f"{row}.wav").write_bytes(wav(tone(300 + 20 * row, 0.3, 8000)))
        rows.append(f"{row}.wav\t{sentence(row)}")
    return lines(folder / "recordings.tsv", rows)


def pictures(folder: Path) -> str:
    draw, rows = np.random.default_rng(1), ["path\ttext"]
    for row in range(30):
        Image.fromarray(draw.integers(0, 256, (16, 24), np.uint8)).save(folder / f"{row}.png")
        rows.append(f"{row}.png\t{sentence(row)}")
    return lines(folder / "pictures.tsv", rows)


VERBS: dict[str, tuple[Written, str, str]] = {
    "classify": (reviews, sentence(7), "label"),
    "tag": (tagged, sentence(7), "tags"),
    "extract": (questions, f"third 7?\t{sentence(7)}", "span"),
    "continue": (book, sentence(7), "tokens"),
    "forecast": (series, "series.csv", "values"),
    "transcribe": (recordings, "3.wav", "text"),
    "generate": (pictures, "3.png", "text"),
}
"""A plain file, something to read once it is learnt, and what is told of it."""


@pytest.mark.parametrize("verb", VERBS)
def test_a_plain_file_is_planned_without_a_setting(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    file = VERBS[verb][0](tmp_path)
    assert main(["train", file, "--dry-run", "--json"]) == 0
    [plan] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert plan["recipe"]["task"]["kind"] == verb and not (tmp_path / "runs").exists()


def test_a_folder_is_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pictures(tmp_path)
    (tmp_path / "._pictures.tsv").write_text("left by another system")
    (tmp_path / "3.png").rename(tmp_path / "3.jpg")  # read alike, whatever it is called
    Path(tmp_path / "pictures.tsv").write_text((tmp_path / "pictures.tsv").read_text().replace("3.png", "3.jpg", 1))
    assert main(["train", str(tmp_path), "--dry-run", "--json", "--set=model.width=16"]) == 0
    assert json.loads(capsys.readouterr().out)["recipe"]["data"]["train"] == [str(tmp_path / "pictures.tsv")]
    reviews(tmp_path)
    assert main(["train", str(tmp_path), "--dry-run", "--json"]) == 2
    assert "a folder with several tables: pictures.tsv, reviews.tsv" in capsys.readouterr().out


@pytest.mark.parametrize("verb", VERBS)
def test_what_was_learnt_is_used(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write, given, told = VERBS[verb]
    assert main(["train", write(tmp_path), "--out", "run", *FEW]) == 0
    (tmp_path / "given").write_text(f"{given}\n")
    capsys.readouterr()
    assert main(["predict", "run", given if verb == "forecast" else "given", "--json"]) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert len(answers) == 1 and told in answers[0]
    if verb == "forecast":
        assert np.shape(answers[0]["values"]) == (24, 2)
    elif verb == "tag":
        assert len(answers[0]["tags"]) == len(given.split())
    assert main(["inspect", "run", given, "--out", "page.html"]) == 0
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def unseen_label(folder: Path) -> list[str]:
    return [reviews(folder), "--test", lines(folder / "test.tsv", ["id\ttext\tlabel", "1\tone\tgood", "2\ttwo\tgoood"])]


def unseen_tag(folder: Path) -> list[str]:
    return [tagged(folder), "--test", lines(folder / "test.conll", ["one B", "two NB", "", "one B"])]


def answers_nowhere(folder: Path) -> list[str]:
    return [
        lines(folder / "a.jsonl", [json.dumps({"question": "?", "context": "a b", "answers": ["c"], "starts": [9]})])
    ]


def picture_that_is_none(folder: Path) -> list[str]:
    file = pictures(folder)
    (folder / "4.png").write_text("no picture")
    return [file]


def sound_that_is_missing(folder: Path) -> list[str]:
    file = recordings(folder)
    (folder / "9.wav").unlink()
    return [file]


def short_series(folder: Path) -> list[str]:
    return [series(folder, 20), "--target", "销量", "--horizon", "24"]


def column_of_nothing(folder: Path) -> list[str]:
    file = series(folder, 90)
    header, *rows = Path(file).read_text().splitlines()
    return [lines(Path(file), [f"{header},cold", *(f"{row}," for row in rows)]), "--target", "cold"]


FAULTS: dict[Callable[[Path], list[str]], str] = {
    unseen_label: "'goood'",
    unseen_tag: "'NB'",
    answers_nowhere: "no usable question",
    picture_that_is_none: "row 5",
    sound_that_is_missing: "row 10",
    short_series: "20 steps",
    column_of_nothing: "column 'cold' has no number",
}


@pytest.mark.parametrize("spoil", FAULTS)
def test_bad_data_is_one_error_and_leaves_nothing(
    spoil: Callable[[Path], list[str]], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = spoil(tmp_path)
    before = sorted(tmp_path.rglob("*"))
    assert main(["train", *words, "--out", str(tmp_path / "run"), "--json", *FEW]) == 2
    out, told = capsys.readouterr()
    [error] = [json.loads(line)["error"] for line in out.splitlines()]
    assert FAULTS[spoil] in f"{error['where']}: {error['message']}" and error["hint"] and "Traceback" not in told
    assert sorted(tmp_path.rglob("*")) == before
