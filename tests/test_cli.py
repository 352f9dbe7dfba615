"""The verbs of the command line as their users meet them, on one tiny run: what is printed where, and what is true."""

import gzip
import io
import json
import os
import random
import re
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

import regard.predictor
from regard.cli.main import VERBS, main
from regard.training.loop import Standing
from regard.training.watching import Quiet  # before anyone captures: its stream is the one of this moment

TINY = "model.width=16 model.encoder.layers=1 model.decoder.layers=1 training.steps=20 training.precision=fp32".split()
TINY_DATES = """
    data.locales=[en_US,de_DE] data.train=300 data.dev=20 data.test=30 vocabulary.size=400
    model.width=16 model.encoder.layers=1 model.decoder.layers=1 training.steps=3
    """.split()


def with_settings(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("--set", setting)]


class Ran(NamedTuple):
    status: int
    out: str
    err: str

    def objects(self) -> list[dict[str, Any]]:
        """The lines of standard output, each a JSON object."""
        return [json.loads(line) for line in self.out.splitlines()]


Call = Callable[..., Ran]


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Call:
    def run(*words: str | Path, typed: str | bytes = "") -> Ran:
        content = typed.encode() if isinstance(typed, str) else typed
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        capsys.readouterr()
        status = main([str(word) for word in words])
        return Ran(status, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Numbers and the same backwards, tab between them, sorted; a few are palindromes."""
    digits = random.Random(0)
    numbers = sorted({"".join(digits.choices("0123456789", k=digits.randint(3, 6))) for _ in range(310)})[:300]
    path = tmp_path_factory.mktemp("data") / "pairs.tsv"
    path.write_text("".join(f"{number}\t{number[::-1]}\n" for number in numbers))
    return path


@pytest.fixture(scope="module")
def run(pairs: Path) -> Path:
    folder = pairs.parent / "run"
    assert main(["train", str(pairs), "--out", str(folder), "--quiet", *with_settings(*TINY)]) == 0
    return folder


@pytest.fixture(scope="module")
def dates(pairs: Path) -> Path:
    folder = pairs.parent / "dates"
    assert main(["demo", "--out", str(folder), "--quiet", *with_settings(*TINY_DATES)]) == 0
    return folder


def test_the_plan_is_told_and_a_dry_run_writes_nothing(call: Call, pairs: Path, tmp_path: Path) -> None:
    ran = call("train", pairs, "--out", tmp_path / "run", "--dry-run", *with_settings(*TINY))
    lines = ran.err.splitlines()
    labels = [line.split()[0] for line in lines]
    assert (ran.status, ran.out) == (0, "")
    assert 6 <= len(lines) <= 12 and {"data", "vocabulary", "model", "batch", "steps", "time"} <= {*labels}
    assert str(pairs) in lines[0] and "'1' -> '2'" in lines[0]
    assert re.search(r"2\d\d pairs to train on, 0 dropped", lines[1])
    assert [*tmp_path.iterdir()] == []


def test_dry_run_as_json_is_the_plan_and_the_recipe(call: Call, pairs: Path, tmp_path: Path) -> None:
    ran = call("train", pairs, "--out", tmp_path / "run", "--dry-run", "--json", "--quiet", *with_settings(*TINY))
    [told] = ran.objects()
    assert ran.err == "" and {"data", "model", "steps", "time"} <= dict(told["plan"]).keys()
    assert told["recipe"]["training"]["steps"] == 20 and told["recipe"]["model"]["width"] == 16


def test_a_run_leaves_all_that_is_needed_to_go_on(run: Path) -> None:
    needed = {"recipe.yaml", "fields", "model.safetensors", "metrics.jsonl", "checkpoints", "report.html", "README.md"}
    assert {file.name for file in run.iterdir()} - {".lock"} == needed


def test_a_run_that_is_done_stays_as_it_is_and_ends_with_its_scores(call: Call, pairs: Path, run: Path) -> None:
    before = (run / "model.safetensors").read_bytes()
    ran = call("train", pairs, "--out", run, "--json", *with_settings(*TINY))
    [ended] = ran.objects()
    assert ran.status == 0 and "   finished  " in ran.err and "going on" not in ran.err
    assert ended["run"] == str(run) and ended["steps"] == 20 and ended["seconds"] > 0
    assert ended["scores"].keys() == ended["baseline"].keys() == ended["signatures"].keys() >= {"bleu", "chrf"}
    assert all(0 <= score <= 100 for score in [*ended["scores"].values(), *ended["baseline"].values()])
    assert "tok:13a" in ended["signatures"]["bleu"]
    assert (run / "model.safetensors").read_bytes() == before


def test_scores_are_told_beside_the_baseline(call: Call, pairs: Path, run: Path) -> None:
    told = call("train", pairs, "--out", run, *with_settings(*TINY)).err
    assert re.search(r"on dev +copy source\n", told) and re.search(r"\nchrf +\d+\.\d\d +\d+\.\d\d\n", told)
    assert "No better than the baseline, copy source" in told
    assert str(run / "report.html") in told and f"regard predict {run}" in told


def test_stopped_by_a_signal_it_saves_and_the_same_command_goes_on(
    call: Call, pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["train", pairs, "--out", tmp_path / "run", "--quiet", "--json", *with_settings(*TINY)]

    def terminate(self: Quiet, standing: Standing, *rest: object) -> None:
        if standing.step == 5:
            os.kill(os.getpid(), signal.SIGTERM)

    with monkeypatch.context() as patch:
        patch.setattr(Quiet, "stepped", terminate)
        stopped = call(*words)
    assert stopped.status == 143 and "repeat the same command" in stopped.objects()[0]["error"]["hint"]
    ran = call(*words)
    assert (ran.status, ran.err) == (0, "") and ran.objects()[0]["steps"] == 20


def test_quiet_is_quiet(call: Call, run: Path, tmp_path: Path) -> None:
    assert call("predict", run, "--quiet", typed="123\n").err == ""
    assert call("inspect", run, "123", "--quiet", "--out", tmp_path / "page.html") == (0, "", "")


def test_one_line_in_one_line_out(call: Call, run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed = "123456\n\n98\u20287\n   \n5\n"
    ran = call("predict", run, typed=typed)
    answers = ran.out.split("\n")
    assert ran.status == 0 and len(answers) == 6 and answers[1] == answers[3] == answers[5] == ""
    assert [call("predict", run, typed=line).out for line in ("123456", "98\u20287", "5")] == [
        f"{answers[place]}\n" for place in (0, 2, 4)
    ]
    (tmp_path / "lines.txt").write_bytes(b"\xef\xbb\xbf" + typed.replace("\n", "\r\n").encode())
    (tmp_path / "lines.txt.gz").write_bytes(gzip.compress(typed.encode()))
    monkeypatch.setattr(regard.predictor, "CHUNK", 2)
    assert call("predict", run, tmp_path / "lines.txt") == ran == call("predict", run, tmp_path / "lines.txt.gz")


def test_a_line_that_is_no_text_is_named(call: Call, run: Path) -> None:
    ran = call("predict", run, typed=b"123\n\xff\n")
    assert ran.status == 2 and "standard input:2: byte 0xff after 0 characters of this line is not UTF-8" in ran.err


def test_predictions_as_objects(call: Call, run: Path) -> None:
    words = ["predict", run, "--min-length", 3]
    plain = call(*words, typed="123\n\n45\n").out.split("\n")
    first, blank, third = call(*words, "--json", typed="123\n\n45\n").objects()
    assert blank == {"text": "", "score": 0.0, "tokens": [], "alternatives": []}
    assert [first["text"], third["text"]] == [plain[0], plain[2]] and first["score"] < 0
    assert first["tokens"] and all(isinstance(token, str) for token in first["tokens"])


def test_n_best_and_beam(call: Call, run: Path) -> None:
    [best] = call("predict", run, "--n-best", 7, "--json", typed="123").objects()
    scores = [best["score"], *(one["score"] for one in best["alternatives"])]
    assert len(scores) == 7 and scores == sorted(scores, reverse=True)
    columns = call("predict", run, "--n-best", 3, "--beam", 3, typed="123\n\n").out.split("\n")
    assert columns[0].count("\t") == 2 and columns[1] == ""
    [greedy] = call("predict", run, "--beam", 1, "--max-length", 4, "--json", typed="123").objects()
    assert greedy["alternatives"] == [] and len(greedy["tokens"]) <= 3


def test_a_prefix_begins_every_answer(call: Call, run: Path) -> None:
    answers = call("predict", run, "--prefix", "98 7", typed="123\n\n45\n").out.split("\n")
    assert [answer[:4] for answer in answers] == ["98 7", "", "98 7", ""]


def test_a_line_break_in_an_answer_shifts_nothing(call: Call, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("regard.data.tokenisers.Tokeniser.decode", lambda *given: "two\nlines")
    assert call("predict", run, typed="1\n2\n").out == "two lines\ntwo lines\n"
    assert call("predict", run, "--json", typed="1").objects()[0]["text"] == "two\nlines"


def test_tags_go_by_option_or_by_line(call: Call, dates: Path) -> None:
    by_option = call("predict", dates, "--tag", "de_DE", typed="3. April 2025\n\n")
    assert by_option.status == 0 and by_option == call("predict", dates, typed="3. April 2025\tde_DE\n\n")
    missing = call("predict", dates, typed="3. April 2025\n")
    assert missing.status == 2 and "de_DE, en_US" in missing.err and "--tag" in missing.err
    unknown = call("predict", dates, "--tag", "de_FR", typed="3. April 2025\n")
    assert unknown.status == 2 and "tag 'de_FR'" in unknown.err and "did you mean 'de_DE'?" in unknown.err


def test_evaluate_counts_as_one_would_by_hand(call: Call, pairs: Path, run: Path) -> None:
    rows = [line.split("\t") for line in pairs.read_text().splitlines()]
    answers = call("predict", run, typed="".join(f"{source}\n" for source, _ in rows)).out.split("\n")
    [found] = call("evaluate", run, pairs, "--json").objects()
    right = sum(answer == target for answer, (_, target) in zip(answers, rows, strict=False))
    same = sum(source == target for source, target in rows)
    assert found["scores"]["exact_match"] == pytest.approx(100 * right / 300)
    assert found["baseline"]["exact_match"] == pytest.approx(100 * same / 300) and same > 0
    assert (found["rows"], found["reference_tokens"]) == (300, 300)
    assert "case:mixed|eff:no|tok:13a" in found["signatures"]["bleu"]


def test_evaluate_as_a_paper_may_have_done(call: Call, pairs: Path, run: Path) -> None:
    ran = call("evaluate", run, pairs, "--lowercase", "--tokenize", "none", "--beam", 1)
    assert ran.status == 0 and "case:lc|eff:no|tok:none" in ran.out and "300 reference tokens" in ran.out
    assert re.search(r"^ +model +copy source$", ran.out, re.MULTILINE)


def test_a_run_does_not_differ_from_itself(call: Call, pairs: Path, run: Path) -> None:
    [found] = call("compare", run, run, pairs, "--beam", 1, "--json").objects()
    assert found["rows"] == 300 and found["bleu"]["p_value"] == found["chrf"]["p_value"] == 1
    assert found["chrf"]["one"] == found["chrf"]["other"] and "bs:1000" in found["chrf"]["signature"]
    told = call("compare", run, run, pairs, "--beam", 1)
    assert told.out.count("within chance") == 2 and told.err == ""


def test_inspect_writes_one_page_that_needs_nothing_else(call: Call, run: Path, tmp_path: Path) -> None:
    out = tmp_path / "page.html"
    ran = call("inspect", run, "<script>1</script>", "--out", out)
    page = out.read_text("utf-8")
    assert ran.status == 0 and str(out) in ran.err and page.startswith("<!doctype html>")
    assert "<script>1" not in page and not re.search(r"""(src|href)\s*=\s*["']?(https?:)?//""", page)


def test_inspect_as_an_object(call: Call, run: Path) -> None:
    [own] = call("inspect", run, "123", "--json").objects()
    assert own.keys() == {"source", "target", "words", "maps", "alignment"}
    assert {"decoder/0/cross", "decoder/0/self", "encoder/0/self", "cross/average"} == own["maps"].keys()
    cross = own["maps"]["decoder/0/cross"]
    assert (len(cross), len(cross[0]), len(cross[0][0])) == (4, len(own["target"]), len(own["source"]))
    assert sum(cross[0][0]) == pytest.approx(1, abs=1e-3)
    [given] = call("inspect", run, "123", "--target", "321", "--json").objects()
    assert "".join(given["target"]).replace("▁", "") == "321</s>"
    assert all(len(pair) == 2 for pair in given["alignment"])


def test_config_shows_what_train_takes(call: Call, run: Path, tmp_path: Path) -> None:
    shown = call("config", run).out
    [recipe] = call("config", run, "--json").objects()
    assert yaml.safe_load(shown) == yaml.safe_load((run / "recipe.yaml").read_text()) == recipe
    assert call("config", "dates", "--json").objects()[0]["data"]["kind"] == "dates"
    own = tmp_path / "own.yaml"
    own.write_text(shown)
    assert call("config", own).out == shown
    [again] = call("train", "--recipe", own, "--out", tmp_path / "run", "--dry-run", "--json").objects()
    assert again["recipe"] == recipe


def test_doctor(call: Call) -> None:
    [found] = call("doctor", "--json").objects()
    assert found["regard"] == regard.__version__ and {"torch", "device", "threads"} <= found.keys()
    assert call("doctor").out.startswith("regard ")


def test_demo_says_what_is_real_and_what_is_generated(call: Call, tmp_path: Path) -> None:
    ran = call("demo", "--out", tmp_path / "run", *with_settings(*TINY_DATES))
    page = (tmp_path / "run" / "report.html").read_text("utf-8")
    assert ran.status == 0 and "\n    " in ran.err
    for told in (ran.err, page):
        assert re.search(r"Real: \d+ ways of writing a date in 2 locales", told) and "Generated: the dates" in told


def test_help_of_every_verb_begins_with_what_it_does(call: Call) -> None:
    assert call().out == call("--help").out
    for verb, does in VERBS.items():
        lines = [line.strip() for line in call(verb, "--help").out.splitlines()]
        assert lines.count(does) == 1 and lines[2] == does
