"""Run folders from strangers: nothing in them runs, leads elsewhere or fills the memory, and what is wrong is named."""

import io
import os
import pickle
import shutil
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

import regard
import regard.api
from regard import memory
from regard.cli.main import main
from regard.errors import RegardError, RunError, SettingsError
from regard.layers.embeddings import TokenEmbedding
from regard.models.heads import TokenHead
from regard.models.model import ModelSettings, build_model, count_weights
from regard.models.parts import Widths
from regard.training import objective

SMALL = "model.width=16 model.encoder.layers=1 model.decoder.layers=1 training.steps=2 training.precision=fp32".split()
FETCH = "\n  fetch the whole folder again from where it comes"
READ = ["recipe.yaml", "fields/vocabulary.model", "model.safetensors"]
VERBS = {
    "predict": ["predict", "run", "-", "--beam", "1"],
    "evaluate": ["evaluate", "run", "few.tsv", "--beam", "1"],
    "inspect": ["inspect", "run", "7 apples", "--beam", "1"],
    "compare": ["compare", "good", "run", "few.tsv", "--beam", "1"],
}


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that is as it should be, beside its data."""
    place = tmp_path_factory.mktemp("good")
    (place / "pairs.tsv").write_text("".join(f"{n} apples\t{n} Äpfel\n" for n in range(30)), "utf-8")
    (place / "few.tsv").write_text("7 apples\t7 Äpfel\n8 apples\t8 Äpfel\n", "utf-8")
    return regard.train(place / "pairs.tsv", out=place / "good", settings=SMALL).path


@pytest.fixture
def run(good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy for a stranger to change, in the current folder with its data and the good one."""
    shutil.copytree(good.parent, tmp_path, dirs_exist_ok=True)
    shutil.copytree(good, tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "run"


def refused(run: Path, file: str, kind: type[RegardError] = RunError) -> str:
    """The message with which a folder is refused; it names the file, and no large thing was read."""
    tracemalloc.start()
    try:
        with pytest.raises(kind) as caught:
            regard.load(run, "cpu")
        assert tracemalloc.get_traced_memory()[1] < 1 << 24
    finally:
        tracemalloc.stop()
    assert caught.value.where == str(run / file) and caught.value.exit_status == 2
    return str(caught.value)


def tell(verb: str, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"7 apples\n")))
    return main(VERBS[verb])


def sparse(path: Path, size: int) -> None:
    """A file that is large only when it is read."""
    path.write_bytes(b"")
    os.truncate(path, size)


# Pickles


class Canary:
    """Unpickled, it leaves a folder."""

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, ("canary",)


def test_no_verb_ever_unpickles(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attack = pickle.dumps(Canary())
    for name in ("pytorch_model.bin", "training_args.bin", "fields/tokenizer.pkl", "checkpoints/00000002/state.pt"):
        (run / name).write_bytes(attack)
    for file in [path for path in run.rglob("*") if path.is_file() and path not in [run / name for name in READ]]:
        file.write_bytes(attack)
    assert [tell(verb, monkeypatch) for verb in VERBS] == [0] * 4
    for name in READ:
        whole = (run / name).read_bytes()
        (run / name).write_bytes(attack)
        assert [tell(verb, monkeypatch) for verb in VERBS] == [2] * 4
        (run / name).write_bytes(whole)
    assert not Path("canary").exists()
    pickle.loads(attack)
    assert Path("canary").exists()


# Recipes


def rewrite(run: Path, old: str, new: str) -> None:
    recipe = run / "recipe.yaml"
    text = recipe.read_text("utf-8")
    assert old in text
    recipe.write_text(text.replace(old, new), "utf-8")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("task:", "auto_map: {AutoModel: mine.Model}\ntask:", "no setting 'auto_map'"),
        ("task:", "trust_remote_code: true\ntask:", "no setting 'trust_remote_code'"),
        ("  kind: generate", "  kind: generate\n  _target_: os.abort", "no setting 'task._target_'"),
        ("vocabulary:", "vocabulary:\n  path: ../../vocabulary.model", "no setting 'vocabulary.path'"),
        ("model:", "model:\n  weights: /tmp/model.safetensors", "no setting 'model.weights'"),
        ("kind: generate", "kind: os.system", "'os.system'"),
        ("kind: generate", "kind: [generate]", "'task.kind'"),
        ("layers: 1", f"layers: {10**9}", "found 1000000000"),
    ],
)
def test_a_recipe_can_only_set_what_is_known(old: str, new: str, told: str, run: Path) -> None:
    rewrite(run, old, new)
    message = refused(run, "recipe.yaml", SettingsError)
    assert told in message and message.endswith("it was changed, or written by another version of regard")


def test_a_recipe_without_newer_settings_means_their_defaults(run: Path) -> None:
    rewrite(run, "  no_repeat_ngram: 0\n", "")
    assert regard.load(run, "cpu").recipe == regard.load("good", "cpu").recipe


def test_no_path_in_a_recipe_is_followed(run: Path) -> None:
    [data] = regard.load(run, "cpu").recipe.data.model_dump()["train"]
    rewrite(run, f"- {data}\n", "- /dev/zero\n  - ../../../nowhere.tsv\n")
    one, other = (regard.load(path, "cpu").predict(["7 apples"], beam=1)[0].to_json() for path in (run, "good"))
    assert one == other


def test_a_recipe_that_is_too_long_is_not_read(run: Path) -> None:
    sparse(run / "recipe.yaml", 10**9)
    assert "1,000,000,000 bytes, at most 1,048,576 can be right" + FETCH in refused(run, "recipe.yaml")


def test_a_terabyte_is_refused_before_any_of_it_is_taken(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objective, "seed_for", None)  # asked for before the first weight is made
    rewrite(run, "width: 16", "width: 16384")
    rewrite(run, "layers: 1\n", "layers: 128\n")
    rewrite(run, "feedforward: 256", "feedforward: 65536")
    with pytest.raises(SettingsError) as caught:
        regard.load(run, "cpu")
    told = "model: its weights need 3,848.6 GB, and "
    assert str(caught.value).startswith(told) and " GB of memory are free: 128-layer" in str(caught.value)
    assert "width 16384" in str(caught.value) and "lower model.width, model.encoder.layers" in str(caught.value.hint)
    sizes = [f"model.{side}.{size}" for side in ("encoder", "decoder") for size in ("layers=128", "feedforward=65536")]
    with pytest.raises(SettingsError, match=r"its weights, 5 times, need 19,242\.9 GB"):
        regard.train("pairs.tsv", out="new", settings=["model.width=16384", *sizes, "training.precision=fp32"])
    assert not Path("new").exists()


PARTS = [{"kind": "transformer", "layers": 2, "feedforward": 24}, {"kind": "rnn"}, {"kind": "rnn", "cell": "lstm"}]


def head(output: TokenEmbedding, widths: Widths) -> TokenHead:
    return TokenHead(output)


@pytest.mark.parametrize("encoder", PARTS)
@pytest.mark.parametrize("decoder", PARTS)
def test_weights_are_counted_exactly(encoder: dict[str, Any], decoder: dict[str, Any]) -> None:
    settings = ModelSettings.model_validate({"width": 16, "encoder": encoder, "decoder": decoder})
    weights = build_model(settings, 37, head).parameters()
    assert count_weights(settings, 37, head) == sum(weight.numel() for weight in weights)


@pytest.mark.parametrize(
    ("said", "free"),
    [
        ({"/proc/meminfo": "MemTotal: 90000 kB\nMemAvailable:   2000 kB\n"}, 2_048_000),
        ({"/proc/meminfo": "MemAvailable: 2000 kB\n", "/sys/fs/cgroup/memory.max": "max\n"}, 2_048_000),
        ({"/proc/meminfo": "MemAvailable: 2000 kB\n", "/sys/fs/cgroup/memory.max": "1000000\n"}, 1_000_000),
        ({}, os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")),
    ],
)
def test_free_memory(said: dict[str, str], free: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "_read", lambda file: said.get(file, ""))
    assert memory.free_memory() == free


# Vocabulary and data


def test_a_vocabulary_that_is_too_large_is_not_read(run: Path) -> None:
    sparse(run / "fields" / "vocabulary.model", 10**9)
    assert "at most 16,000,000 can be right" in refused(run, "fields/vocabulary.model")


@pytest.mark.parametrize("content", [b"", b"\xff", b"{}", b"[1]", b'"fingerprint"', b"[" * 100_000, None])
def test_what_is_known_of_the_data_may_be_damaged(
    content: bytes | None, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = run / "fields" / "data.json"
    file.unlink() if content is None else file.write_bytes(content)
    assert tell("predict", monkeypatch) == 0
    [data] = regard.load(run, "cpu").recipe.data.model_dump()["train"]
    settings = [word for setting in SMALL for word in ("--set", setting)]
    assert main(["train", data, "--out", str(run), *settings]) == 2
    assert f"regard: {file}: missing or damaged\n  start a new run with another --out\n" in capsys.readouterr().err


# Links


@pytest.mark.parametrize("file", READ)
def test_a_link_out_of_the_folder_is_not_followed(file: str, run: Path) -> None:
    outside = Path("good", file).absolute()
    for target in (outside, os.path.relpath(outside, (run / file).parent), "/etc/passwd", "/dev/zero"):
        (run / file).unlink()
        (run / file).symlink_to(target)
        assert (run / file).exists()
        assert "a link out of it, a folder or a device\n  put the file itself there" in refused(run, file)


def test_a_linked_folder_of_fields_is_not_followed(run: Path) -> None:
    shutil.rmtree(run / "fields")
    (run / "fields").symlink_to(Path("good", "fields").absolute())
    assert "a link out of it" in refused(run, "fields/vocabulary.model")


@pytest.mark.parametrize("file", READ)
@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo], ids=["folder", "pipe"])
def test_what_is_no_file_is_not_read(make: Callable[[Path], None], file: str, run: Path) -> None:
    (run / file).unlink()
    make(run / file)
    assert "a link out of it, a folder or a device" in refused(run, file)


@pytest.mark.parametrize("file", READ)
def test_a_link_to_itself_is_nothing(file: str, run: Path) -> None:
    (run / file).unlink()
    (run / file).symlink_to(Path(file).name)
    with pytest.raises(RunError, match=Path(file).name):
        regard.load(run, "cpu")


def test_links_within_the_folder_and_to_it_are_followed(run: Path) -> None:
    (run / "model.safetensors").rename(run / "best.safetensors")
    (run / "model.safetensors").symlink_to("best.safetensors")
    Path("link").symlink_to(run)
    assert torch.equal(*(regard.load(path, "cpu").model.embedding.weight for path in ("link", "good")))


# What every verb says

DAMAGES = {
    "weights": ("model.safetensors", "not the weights of this model"),
    "vocabulary": ("fields/vocabulary.model", "not a sentencepiece model"),
    "recipe": ("recipe.yaml", "not plain YAML"),
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(("file", "told"), DAMAGES.values(), ids=DAMAGES)
def test_every_verb_says_what_is_wrong(
    verb: str, file: str, told: str, run: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    (run / file).write_bytes(b"%PDF-1.7\n\0")
    assert tell(verb, monkeypatch) == 2
    out, err = capfd.readouterr()
    assert out == "" and err.startswith(f"regard: run/{file}: {told}") and err.count("\n") < 7


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "banana", "cpu:x", ""])
@pytest.mark.parametrize("verb", VERBS)
def test_a_device_that_is_not_here_is_refused(
    verb: str, device: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert main([*VERBS[verb], "--device", device]) == 2
    assert capsys.readouterr().err == f"regard: device: no device '{device}' here\n  known: auto, cpu\n"
