"""What the command line says when something is wrong with what it was given, or with the world around it."""

import gzip
import io
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import regard
from regard.cli.main import main
from regard.errors import RegardError

TINY = ["model.width=16", "model.encoder.layers=1", "model.decoder.layers=1", "training.steps=2"]
ENVIRONMENT = {"PYTHONPATH": str(Path(regard.__file__).parent.parent), "OMP_NUM_THREADS": "1"}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data, a run, and what is neither."""
    place = tmp_path_factory.mktemp("place")
    (place / "pairs.tsv").write_text("".join(f"{n} apples\t{n} Äpfel\n" for n in range(30)), "utf-8")
    (place / "lines.txt.gz").write_bytes(gzip.compress(b"7 apples\n" * 500)[:-9])
    (place / "latin.txt").write_bytes("7 apples\n7 Äpfel\n".encode("latin-1"))
    (place / "plain.txt.gz").write_bytes(b"7 apples\n")
    (place / "strange.yaml").write_text("data: !!python/object/apply:os.getcwd []\n")
    (place / "full").mkdir()
    (place / "full" / "letter.txt").write_text("keep me")
    regard.train(place / "pairs.tsv", out=place / "run", settings=[*TINY, "training.precision=fp32"])
    return place


FAULTS = {
    "trian pairs.tsv": "no command 'trian': did you mean 'train'? regard --help",
    "train": "no data given regard train pairs.tsv",
    "train pairs.tsv --stpes 3": "No such option '--stpes' regard train --help",
    "train pairs.tsv --seed x": "Invalid value for '--seed' 'x' regard train --help",
    "train nothing.tsv": "nothing.tsv: no such file looked in",
    "train full": "full: this is a folder, not a file",
    "train pairs.tsv --out new --set training.stpes=3": "no setting 'training.stpes' did you mean 'steps'?",
    "train pairs.tsv --out new --set training.steps": "no value given --set training.steps=VALUE",
    "train pairs.tsv --out new --set training.steps=many": "'training.steps' valid integer 'many'",
    "train pairs.tsv --out new --set model.encoder.layers=1000000000": "'model.encoder.layers' 128 1000000000",
    "train pairs.tsv --out new --time-limit soon": "--time-limit 'soon' is not a time write 90s, 30m or 2h",
    "train pairs.tsv --out new --source third": "--source: no column 'third' known: 1, 2",
    "train pairs.tsv --out new --device tpu": "no device 'tpu' here known: auto, cpu",
    "train pairs.tsv --out full --set training.precision=fp32": "full: the folder is not empty another --out",
    "train pairs.tsv --out pairs.tsv": "pairs.tsv: cannot write here: File exists",
    "train pairs.tsv --out run --set training.steps=3": "run: other settings: training.steps=3 another --out",
    "train pairs.tsv --recipe dates": "data files, and recipe 'dates', which names its own leave one of them out",
    "train pairs.tsv --out new --data full": "--data is the data folder of a recipe give --recipe",
    "train --recipe daets": "no recipe 'daets' did you mean 'dates'?",
    "train --recipe dates --data full": "recipe 'dates' makes its own data leave --data out",
    "train --recipe multi30k-en-de": "'multi30k-en-de' needs its data folder --data DIR",
    "train --recipe nothing.yaml": "nothing.yaml o such file is the path right",
    "train --recipe strange.yaml": "strange.yaml: not plain YAML: could not determine a constructor",
    "demo --out new --set data.locales=[en_GX]": "no locale 'en_GX' did you mean 'en_G",
    "predict": "Missing argument 'RUN' regard predict --help",
    "predict full": "full: no recipe.yaml: not a run folder make one with: regard train",
    "predict run nothing.txt": "nothing.txt: cannot be read: No such file is the path right?",
    "predict run lines.txt.gz": "lines.txt.gz: damaged or not gzip fetch it",
    "predict run plain.txt.gz": "plain.txt.gz: damaged or not gzip",
    "predict run latin.txt": "latin.txt:2: byte 0xc4 is not UTF-8 save it as UTF-8",
    "predict run - --beam 0": "'beam' greater than or equal to 1, found 0",
    "predict run - --beam 2 --n-best 5": "n_best 5 needs a beam at least as wide, not 2",
    "predict run - --max-length 3 --min-length 9": "max_length 3 is below min_length 9",
    "predict run - --tag de": "tag 'de' was not seen in training leave the tag out",
    "evaluate run": "Missing argument 'DATA...' regard evaluate --help",
    "evaluate run pairs.tsv --tokenize 13b": "'13b' 'none' regard evaluate --help",
    "evaluate run pairs.tsv --target 3": "--target: no column '3' known: 1, 2",
    "compare run full pairs.tsv": "full: no recipe.yaml",
    "inspect run ' '": "nothing to look at in an empty text",
    "inspect run word --out nowhere/page.html": "nowhere/page.html: cannot write: No such file choose another --out",
    "config nothing": "no recipe 'nothing' known: dates, multi30k-en-de",
    "config nothing.yaml": "nothing.yaml o such file is the path right",
}


@pytest.mark.parametrize(("words", "told"), FAULTS.items(), ids=FAULTS)
def test_an_error_names_the_thing_and_a_fix(
    words: str, told: str, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(place)
    before = sorted(place.rglob("*"))
    arguments = shlex.split(words)
    for as_json in (False, True):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"7 apples\n")))
        assert main([*arguments, *(["--json"] if as_json else [])]) == 2
        out, err = capsys.readouterr()
        if as_json:
            [error] = [json.loads(line)["error"] for line in out.splitlines()]
            out, err = "", str(RegardError(error["message"], where=error["where"], hint=error["hint"]))
        assert out == "" and "Traceback" not in err and len(err) < 2500
        for part in re.findall(r"\S+", told):
            assert part in err
    assert sorted(place.rglob("*")) == before


def test_a_fault_of_ours_says_so(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*given: object) -> None:
        raise ZeroDivisionError("by zero")

    monkeypatch.setattr("regard.machine.examine", broken)
    assert main(["doctor"]) == 1
    told = capsys.readouterr().err
    assert "ZeroDivisionError in broken: by zero" in told and "--debug" in told and "Traceback" not in told
    with pytest.raises(ZeroDivisionError):
        main(["doctor", "--debug"])


def test_debug_shows_where_an_error_comes_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["config", "nothing", "--debug"]) == 2
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("number", "status", "told"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_a_signal_is_told_like_an_error(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], number: int, status: int, told: str
) -> None:
    handler = signal.getsignal(number)
    monkeypatch.setattr("regard.machine.examine", lambda: os.kill(os.getpid(), number))
    assert main(["doctor", "--json"]) == status
    assert json.loads(capsys.readouterr().out)["error"]["message"] == told
    assert signal.getsignal(number) == handler


def python(*words: str, **more: object) -> subprocess.Popen[str]:
    return subprocess.Popen([sys.executable, *words], stderr=subprocess.PIPE, text=True, encoding="utf-8", **more)


def test_without_a_home_in_the_c_locale_on_a_narrow_terminal(place: Path, tmp_path: Path) -> None:
    words = ["train", str(place / "pairs.tsv"), "--out", "run", "--set", "training.precision=fp32"]
    words += [word for setting in TINY for word in ("--set", setting)]
    environment = ENVIRONMENT | {"LANG": "C", "COLUMNS": "20"}
    process = python("-m", "regard", *words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE)
    out, told = process.communicate()
    assert (process.returncode, out) == (0, "") and "Äpfel" in told
    assert [*tmp_path.iterdir()] == [tmp_path / "run"]
    assert re.search(r"^step 2  dev: loss \d+\.\d\d.*\(best so far\)$", told, re.MULTILINE)


@pytest.mark.parametrize(("words", "status"), [(["dates"], 0), (["nothing", "--json"], 2)], ids=["answer", "error"])
def test_nobody_reads_the_answer(words: list[str], status: int) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = python("-m", "regard", "config", *words, env=ENVIRONMENT, stdout=writer)
    os.close(writer)
    assert process.communicate()[1] == "" and process.returncode == status


@pytest.mark.parametrize(
    ("redirected", "status", "told"),
    [(">&-", 0, ""), ("<&- >&-", 0, ""), (">/dev/full", 2, "regard: No space left on device\n  is the path right,")],
)
def test_an_answer_that_goes_nowhere(redirected: str, status: int, told: str) -> None:
    words = ["sh", "-c", f'"$0" -m regard config dates {redirected}', sys.executable]
    process = subprocess.run(words, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
    assert process.returncode == status and process.stderr.startswith(told) and bool(process.stderr) == bool(told)
    assert "Traceback" not in process.stderr and "Exception" not in process.stderr


def test_output_is_utf8_whatever_the_locale_says() -> None:
    environment = ENVIRONMENT | {"PYTHONIOENCODING": "ascii"}
    process = python("-m", "regard", "config", "dätes", "--json", env=environment, stdout=subprocess.PIPE)
    out, told = process.communicate()
    assert (process.returncode, told) == (2, "") and "no recipe 'dätes'" in json.loads(out)["error"]["message"]


def test_help_and_import_are_light() -> None:
    look = "import sys, regard.cli.main as cli; cli.main(['--help']); cli.main(['train', '-h']); print(*sys.modules)"
    process = python("-c", look, env=ENVIRONMENT, stdout=subprocess.PIPE)
    out, err = process.communicate()
    assert err == "" and out.startswith("Usage: regard")
    assert not {"torch", "numpy", "pydantic", "sacrebleu"} & {*out.splitlines()[-1].split()}
