"""From Python: train, load, predict, evaluate, look; and run folders that are damaged or hostile."""

import importlib
import os
import pickle
import pkgutil
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import sacrebleu
import torch
from safetensors.torch import load_file, save_file

import regard
import regard.api
from regard.errors import DataError, RegardError, RunError, SettingsError
from regard.predictor import Predictor
from regard.run_folder import RunFolder
from regard.tasks.task import Scoring

TINY = "model.width=16 model.encoder.layers=1 model.decoder.layers=1 training.steps=20 training.precision=fp32".split()
WORDS = "one two three four five six seven eight nine ten".split()
LINES = [f"{first} {second}" for first in WORDS for second in WORDS]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "pairs.tsv"
    path.write_text("".join(f"{line}\t{line.title()}\n" for line in LINES))
    return path


@pytest.fixture(scope="module")
def run(pairs: Path) -> regard.api.Run:
    return regard.train(pairs, out=pairs.parent / "run", settings=TINY)


@pytest.fixture(scope="module")
def model(run: regard.api.Run) -> Predictor:
    return regard.load(run.path)


@pytest.fixture
def folder(run: regard.api.Run, tmp_path: Path) -> Path:
    """A copy of the run, to be damaged."""
    return Path(shutil.copytree(run.path, tmp_path / "copy"))


def test_train_returns_what_it_wrote(run: regard.api.Run) -> None:
    assert run.trained.steps == run.summary()["steps"] == 20 and run.summary()["run"] == str(run.path)
    assert run.scores.keys() == run.trained.baseline.keys() == {"bleu", "chrf", "exact_match"} and run.metric == "bleu"
    assert RunFolder(run.path).recipe() == run.predictor.recipe
    assert any("regard predict" in command for command in run.next_commands)


def test_train_again_returns_the_same(run: regard.api.Run, pairs: Path) -> None:
    again = regard.train(pairs, out=run.path, settings=TINY)
    assert (again.scores, again.trained.baseline) == (run.scores, run.trained.baseline)


def test_files_may_be_paths_and_one_needs_no_list(pairs: Path, tmp_path: Path) -> None:
    dev = tmp_path / "dev.tsv"
    dev.write_text("one two\tOne Two\nten\tTen\n")
    _, plan = regard.api.propose(str(pairs), out=tmp_path / "new", dev=dev, settings="training.precision=fp32")
    assert (len(plan.corpus.train), len(plan.corpus.dev)) == (99, 2)
    assert [*tmp_path.iterdir()] == [dev]


def test_a_run_is_called_after_its_data(pairs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    folder, _ = regard.api.propose(pairs, settings=TINY)
    assert folder.path == Path("runs/pairs")
    folder, _ = regard.api.propose(recipe="dates", settings=["data.train=20", "data.locales=[en_US]"])
    assert folder.path == Path("runs/dates")


def test_answers_come_in_order_and_do_not_depend_on_their_batch(model: Predictor) -> None:
    rows = ["six", "", "one two three four five", {"source": "ten ten"}, " \t"]
    together = model.predict(rows, min_length=3, max_length=8)
    assert [bool(answer.tokens) for answer in together] == [True, False, True, True, False]
    assert together[1].text == "" and together[1].score == 0
    for row, answer in zip(rows, together, strict=True):
        [alone] = model.predict([row], min_length=3, max_length=8)
        assert (alone.text, alone.tokens) == (answer.text, answer.tokens)
        assert alone.score == pytest.approx(answer.score, abs=1e-5)
    assert [one.text for one in model.predict(rows[::-1], min_length=3, max_length=8)] == [
        one.text for one in together[::-1]
    ]
    assert [one.text for one in model.stream(iter(rows), min_length=3, max_length=8)] == [one.text for one in together]
    assert model.predict([]) == []


def test_answers_need_not_wait_for_later_rows(model: Predictor) -> None:
    asked: list[str] = []
    rows = (asked.append(text) or text for text in ("12", "345", "6"))
    answers = model.stream(rows, at_once=1)
    assert (next(answers).text, asked) == (model.predict(["12"])[0].text, ["12"])
    assert len(list(answers)) == 2


def test_n_best_answers_get_worse(model: Predictor) -> None:
    [best] = model.predict(["one two"], beam=6, n_best=6, max_length=8)
    scores = [best.score, *(other.score for other in best.alternatives)]
    assert len(scores) == 6 and scores == sorted(scores, reverse=True)
    assert best.to_json()["alternatives"][0] == {"text": best.alternatives[0].text, "score": scores[1]}


def test_prefixes_belong_to_their_rows(model: Predictor) -> None:
    found = model.predict(["one", "", "two"], prefixes=["Ten", "", "Six"], max_length=8)
    assert [answer.text[:3] for answer in found] == ["Ten", "", "Six"]
    with pytest.raises(DataError, match="1 prefixes for 2 rows"):
        model.predict(["one", "two"], prefixes=["Ten"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"beam": 0}, "'beam'.*greater than or equal to 1, found 0"),
        ({"beam": 2.5}, "'beam'.*integer"),
        ({"beam": 2, "n_best": 3}, "n_best 3 needs a beam at least as wide, not 2"),
        ({"max_length": 0}, "'max_length'"),
        ({"length_penalty": float("nan")}, "'length_penalty'"),
        ({"beams": 3}, "no setting 'beams'\n  did you mean 'beam'"),
    ],
)
def test_options_are_checked(model: Predictor, options: dict[str, float], told: str) -> None:
    with pytest.raises(SettingsError, match=told):
        model.predict(["one"], **options)


def test_rows_are_checked(model: Predictor) -> None:
    for rows, told in [("one two", "one text"), ([{"text": "one"}], "'source'"), (["o\ud800ne"], "half a character")]:
        with pytest.raises(DataError, match=told):
            model.predict(rows)
    with pytest.raises(DataError, match="tag 'de' was not seen"):
        model.predict([{"source": "one", "tag": "de"}])
    with pytest.raises(DataError, match="no rows"):
        model.evaluate([])
    with pytest.raises(DataError, match="'target'"):
        model.evaluate([{"source": "one"}])


def test_attention_of_an_answer_is_that_of_inspect(model: Predictor) -> None:
    [answer] = model.predict(["one two"], max_length=6)
    maps = answer.attention
    assert maps is answer.attention and maps.target == (*answer.tokens, "</s>") and maps.source[-1] == "</s>"
    assert maps.maps["decoder/0/cross"].shape == (4, len(maps.target), len(maps.source))
    torch.testing.assert_close(maps.maps["cross/average"].sum(-1), torch.ones(1, len(maps.target)))
    torch.testing.assert_close(model.inspect("one two", max_length=6).maps, maps.maps)
    assert "</html>" in maps.to_html() and "_look" not in repr(answer)
    with pytest.raises(DataError, match="empty text"):
        model.inspect("  ")


def test_looking_at_a_given_answer(model: Predictor) -> None:
    assert "".join(model.inspect("one", "Two").target).replace("▁", " ").strip() == "Two</s>"


def test_evaluate_scores_what_predict_answers(model: Predictor) -> None:
    rows = [{"source": line, "target": line if "one" in line else line.title()} for line in LINES[:30]]
    found = model.evaluate(rows, scoring=Scoring("none", lowercase=True), beam=1)
    texts = [answer.text for answer in model.predict(rows, beam=1)]
    assert [one.text for one in found.predictions] == texts
    references = [row["target"] for row in rows]
    expected = sacrebleu.corpus_bleu(texts, [references], tokenize="none", lowercase=True, force=True)
    assert found.scores.values["bleu"] == expected.score and found.scores.reference_tokens == expected.ref_len == 60
    copied = sum("one" in line for line in LINES[:30])
    assert found.baseline.values["exact_match"] == pytest.approx(100 * copied / 30) and 0 < copied < 30


def test_devices_are_checked(run: regard.api.Run) -> None:
    assert regard.load(run.path, "cpu").device == torch.device("cpu")
    with pytest.raises(SettingsError, match="no device 'tpu' here\n  known: auto, cpu"):
        regard.load(run.path, "tpu")


def rewrite(file: str, old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        text = (folder / file).read_text("utf-8")
        assert old in text
        (folder / file).write_text(text.replace(old, new, 1), "utf-8")

    return change


def overwrite(file: str, content: bytes) -> Callable[[Path], None]:
    return lambda folder: (folder / file).write_bytes(content) and None


def cut(file: str, end: int) -> Callable[[Path], None]:
    return lambda folder: (folder / file).write_bytes((folder / file).read_bytes()[:end]) and None


def spoil_weights(folder: Path) -> None:
    weights = load_file(folder / "model.safetensors")
    save_file({name: weight * float("nan") for name, weight in weights.items()}, folder / "model.safetensors")


DAMAGES: dict[str, tuple[Callable[[Path], None], type[RegardError], str]] = {
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), RunError, "no trained weights yet"),
    "no weight": (overwrite("model.safetensors", b""), RunError, "not the weights of this model"),
    "half of the weights": (cut("model.safetensors", 2000), RunError, "not the weights of this model"),
    "all but one byte": (cut("model.safetensors", -1), RunError, "not the weights of this model"),
    "a huge header": (
        overwrite("model.safetensors", struct.pack("<Q", 10**8) + b"{" * 99),
        RunError,
        "not the weights",
    ),
    "weights that are no numbers": (spoil_weights, RunError, "not finite"),
    "another width": (rewrite("recipe.yaml", "width: 16", "width: 32"), RunError, "size mismatch"),
    "a billion layers": (rewrite("recipe.yaml", "layers: 1", f"layers: {10**9}"), SettingsError, "layers.*found 1000"),
    "a huge width": (rewrite("recipe.yaml", "width: 16", f"width: {10**9}"), SettingsError, "width.*found 1000"),
    "a huge layer": (rewrite("recipe.yaml", "forward: 256", f"forward: {10**11}"), SettingsError, "forward.*found 1"),
    "an unknown key": (rewrite("recipe.yaml", "task:", "auto_map: x\ntask:"), SettingsError, "no setting 'auto_map'"),
    "a hidden key": (rewrite("recipe.yaml", "task:", "task:\n  _target_: os.abort"), SettingsError, "'task._target_'"),
    "an object": (
        rewrite("recipe.yaml", "kind: generate", "kind: !!python/object/apply:os.abort []"),
        SettingsError,
        "not plain",
    ),
    "an alias": (rewrite("recipe.yaml", "task:", "a: &a [x]\nb: *a\ntask:"), SettingsError, "aliases are not allowed"),
    "no text": (overwrite("recipe.yaml", b"\xff\xfe\0"), SettingsError, "not UTF-8"),
    "an empty recipe": (overwrite("recipe.yaml", b""), SettingsError, "found None"),
    "no recipe": (lambda folder: (folder / "recipe.yaml").unlink(), RunError, "not a run folder\n  make one"),
    "no vocabulary": (lambda folder: (folder / "fields/vocabulary.model").unlink(), RunError, "not a sentencepiece"),
    "no sentencepiece": (overwrite("fields/vocabulary.model", b"abc" * 99), RunError, "not a sentencepiece"),
}


@pytest.mark.parametrize(("damage", "kind", "told"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_run_is_refused(
    damage: Callable[[Path], None], kind: type[RegardError], told: str, folder: Path
) -> None:
    damage(folder)
    with pytest.raises(kind, match=told) as caught:
        regard.load(folder)
    assert str(folder) in str(caught.value)


class Canary:
    """Unpickled, it leaves a file."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return os.mkdir, (str(self.path),)


def test_nothing_is_ever_unpickled(folder: Path, tmp_path: Path, pairs: Path) -> None:
    canary = tmp_path / "canary"
    attack = pickle.dumps(Canary(canary))
    for file in ("model.bin", "data.pkl", "checkpoints/00000020/state.safetensors", "model.safetensors"):
        (folder / file).write_bytes(attack)
    with pytest.raises(RunError, match=r"model\.safetensors: not the weights of this model"):
        regard.load(folder)
    regard.train(pairs, out=folder, settings=TINY)  # the checkpoint is no use: from the beginning
    (folder / "fields" / "vocabulary.model").write_bytes(attack)
    with pytest.raises(RunError, match="not a sentencepiece model"):
        regard.load(folder)
    assert not canary.exists()
    pickle.loads(attack)
    assert canary.exists()


def test_every_name_that_is_offered_exists() -> None:
    assert {"load", "train"} <= {*regard.__all__}
    with pytest.raises(AttributeError, match="no attribute 'trian'"):
        _ = regard.trian
    offering = 0
    for module in [regard, *map(importlib.import_module, packages())]:
        names = getattr(module, "__all__", ())
        assert len({*names}) == len(names) and all(hasattr(module, name) for name in names), module
        offering += bool(names)
    assert offering >= 2


def packages() -> list[str]:
    return [found.name for found in pkgutil.walk_packages(regard.__path__, "regard.") if "__main__" not in found.name]
