"""What the READMEs show is what works, and both show the same."""

import re
import shlex
from pathlib import Path

import pytest

from regard.cli.main import regard

ROOT = Path(__file__).parent.parent
READMES = [ROOT / "README.md", ROOT / "README.zh-CN.md"]
TINY = [
    "model.width=16",
    "model.encoder.layers=1",
    "model.decoder.layers=1",
    "training.steps=4",
    "training.precision=fp32",
    "vocabulary.size=300",
]


def blocks(readme: Path, language: str = "") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", readme.read_text("utf-8"), re.MULTILINE | re.DOTALL)


def commands(readme: Path) -> list[list[str]]:
    lines = [line for block in blocks(readme) for line in block.splitlines() if line.startswith("regard ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


def code(readme: Path) -> str:
    return "\n".join(line.split("  #")[0].rstrip() for line in blocks(readme, "python")[0].splitlines())


@pytest.mark.parametrize("words", commands(READMES[0]), ids=" ".join)
def test_commands_and_their_options_exist(words: list[str]) -> None:
    verb = regard.get_command(regard.make_context("regard", words, resilient_parsing=True), words[0])
    assert verb is not None
    verb.make_context(words[0], words[1:])


def test_recipes_named_exist() -> None:
    from regard.recipes import WITH_DATA, WITHOUT_DATA

    named = set(re.findall(r"`(multi30k-[a-z-]+|dates)`", READMES[0].read_text("utf-8")))
    assert {"multi30k-en-de", "dates"} <= named <= {*WITH_DATA, *WITHOUT_DATA}


def test_both_readmes_show_the_same() -> None:
    english, chinese = READMES
    assert commands(english) == commands(chinese)
    assert code(english) == code(chinese)
    for pattern in (r"^(#+) ", r"!\[.*\]\((.*)\)", r"\]\(((?!README).*?)\)", r"(\d+\.\d+)"):
        found = [re.findall(pattern, readme.read_text("utf-8"), re.MULTILINE) for readme in READMES]
        assert found[0] == found[1], pattern
    rows = [
        [line.count("|") for line in readme.read_text("utf-8").splitlines() if line[:1] == "|"] for readme in READMES
    ]
    assert rows[0] == rows[1]


def test_links_lead_somewhere() -> None:
    for readme in READMES:
        for link in re.findall(r"\]\((?!http)(.*?)\)", readme.read_text("utf-8")):
            assert (ROOT / link).exists(), f"{readme.name}: {link}"


def test_make_targets_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert {"demo", "test", "check", "check-long", "bench", "clean"} <= targets
    assert set(re.findall(r"^make ([a-z-]+)", "\n".join(blocks(READMES[0])), re.MULTILINE)) <= targets


def test_python_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.chdir(tmp_path)
    pairs = [f"A dog runs {number} times.\tEin Hund läuft {number} Mal." for number in range(40)]
    (tmp_path / "pairs.tsv").write_text("\n".join(pairs) + "\n", "utf-8")
    shown = code(READMES[0])
    assert 'time_limit="30m"' in shown
    namespace: dict[str, object] = {}
    exec(shown.replace('time_limit="30m"', f"settings={TINY}"), namespace)
    assert capsys.readouterr().out.strip()
    assert namespace["best"].attention.maps["cross/average"].shape[0] == 1
