"""Sound with words: planned from a plain file, learnt, scored beside the most frequent word, looked at."""

import itertools
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import jiwer
import numpy as np
import pytest
import torch

import regard
from regard.api import Run, propose
from regard.cli.main import main
from regard.data.audio import resample
from regard.data.recordings import Recording
from regard.data.speech import SpokenDigits
from regard.data.units import Units
from regard.decoding.ctc import BLANK, best_path, log_likelihoods, occupancy, prefix_beam_search, transcribe
from regard.errors import DataError, RunError
from regard.metrics.speech import character_error_rate, edit_distance, word_error_rate
from regard.padded import pad
from regard.tasks.task import collate
from test_audio import tone, wav

HERTZ = {"low": 300, "mid": 900, "high": 2200}
SMALL = [
    "model.width=32",
    "model.dropout=0",
    "model.encoder.layers=1",
    "task.units=words",
    "task.source.frames.stack=4",
    "task.source.frames.rate=8000",
    "task.source.augment.widest=2",
    "batching.tokens=256",
    "training.steps=240",
    "training.evaluate_every=80",
    "training.precision=fp32",
    "training.optimisation.learning_rate=0.01",
    "training.optimisation.ema_decay=0.9",
]


def said(words: list[str], seed: int) -> np.ndarray:
    """A tone for each word, of a length of its own, with silence between them and noise over all."""
    draw = np.random.default_rng(seed)
    parts = [np.zeros(400)]
    for word in words:
        parts += [tone(HERTZ[word] * draw.uniform(0.9, 1.1), draw.uniform(0.1, 0.2), 8000), np.zeros(800)]
    samples = np.concatenate(parts)
    return samples + 0.01 * draw.standard_normal(len(samples))


def table(folder: Path, name: str, rows: int, seed: int, most: int = 3) -> Path:
    """Words, and paths relative to the table, with a header."""
    draw = np.random.default_rng(seed)
    (folder / name).mkdir(parents=True)
    lines = ["path\ttext\n"]
    for row in range(rows):
        words = draw.choice([*HERTZ], draw.integers(1, most + 1)).tolist()
        (folder / name / f"{row}.wav").write_bytes(wav(said(words, seed * 1000 + row)))
        lines.append(f"{name}/{row}.wav\t{' '.join(words)}\n")
    (folder / f"{name}.tsv").write_text("".join(lines))
    return folder / f"{name}.tsv"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("transcribe")


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    train, dev = table(folder, "train", 160, 1), table(folder, "dev", 40, 2)
    return regard.train(train, dev=dev, out=folder / "run", settings=SMALL, device="cpu")


def test_a_plain_table_of_sound_is_learnt(run: Run) -> None:
    assert run.predictor.recipe.task.kind == "transcribe"
    assert run.scores["word_error_rate"] < 5 and run.scores["character_error_rate"] < 5
    assert run.trained.baseline["word_error_rate"] > 60
    assert "most frequent word" in (run.path / "README.md").read_text()
    assert "词错误率" in (run.path / "report.html").read_text()


def test_answers_are_words(run: Run, folder: Path) -> None:
    sound = {"source": Recording(said(["high", "low", "low"], 7).astype(np.float32), 8000)}
    [answer, blank] = run.predictor.predict([sound, ""])
    assert answer.text == "high low low" and blank.text == ""
    assert answer.to_json() == {
        "text": "high low low",
        "score": answer.score,
        "tokens": ["▁high", "▁low", "▁low"],
        "alternatives": [],
    }
    [best] = run.predictor.predict([sound], beam=8, n_best=3)
    assert best.text == answer.text and best.score == pytest.approx(answer.score, abs=1e-3)
    assert len(best.alternatives) == 2 and best.alternatives[0].score < best.score
    with pytest.raises(DataError, match="from its beginning"):
        run.predictor.predict([sound], prefixes=["low"])


def test_another_rate_is_the_same_sound(run: Run) -> None:
    sound = torch.from_numpy(said(["mid"], 5).astype(np.float32))
    finer = resample(sound, 8000, 44100)
    one, other = run.predictor.predict(
        [{"source": Recording(samples.numpy(), rate)} for samples, rate in ((sound, 8000), (finer, 44100))]
    )
    assert one.text == other.text == "mid"


def test_when_words_are_said_is_seen(run: Run) -> None:
    samples = np.concatenate([np.zeros(4000), tone(300, 0.2, 8000), np.zeros(4000), tone(2200, 0.2, 8000)])
    samples += 0.01 * np.random.default_rng(1).standard_normal(len(samples))
    maps = run.predictor.inspect({"source": Recording(samples.astype(np.float32), 8000)}, "low high")
    assert maps.source[:2] == ("▁0.00 s", "▁0.04 s") and maps.target == ("▁low", "▁high")
    when = maps.maps["head/alignment"][0]
    assert when.shape == (2, len(maps.source))
    torch.testing.assert_close(when.sum(-1), torch.ones(2))
    low, high = (when @ torch.arange(len(maps.source)).float() * 0.04).tolist()
    assert 0.4 < low < 0.8 and 1.1 < high < 1.5
    assert [target for _, target in maps.alignment()] == ["low", "high"] and "0.00 s" in maps.to_html()
    assert maps.backdrop is not None and len(maps.backdrop.boxes) == len(maps.source)
    bottom, top = maps.backdrop.pixels[:, [60, 130], 0].argmax(0)  # a column for each 10 ms
    assert bottom > top


def test_what_is_not_said_is_looked_at_too(run: Run, folder: Path) -> None:
    path = str(folder / "dev" / "0.wav")
    assert run.predictor.inspect(path, "mid mid").target == ("▁mid", "▁mid")
    with pytest.raises(DataError, match="needs 199 steps"):
        run.predictor.inspect(path, "mid " * 100)
    silence = {"source": Recording(np.zeros(8000, np.float32), 8000)}
    assert "<html" in run.predictor.inspect(silence, "").to_html()


def test_the_run_is_found_again(run: Run, folder: Path) -> None:
    again, paths = regard.load(run.path, "cpu"), [str(folder / "dev" / f"{row}.wav") for row in range(9)]
    assert again.predict(paths) == run.predictor.predict(paths)


def test_from_the_command_line(run: Run, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "paths.txt").write_text(f"{folder}/dev/0.wav\n\n{folder}/dev/1.wav\n")
    assert main(["predict", str(run.path), str(tmp_path / "paths.txt"), "--json"]) == 0
    texts = [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()]
    one, other = run.predictor.predict([f"{folder}/dev/0.wav", f"{folder}/dev/1.wav"])
    assert texts == [one.text, "", other.text]
    assert main(["evaluate", str(run.path), str(folder / "dev.tsv"), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"]["word_error_rate"] < 5
    assert main(["predict", str(run.path), str(folder / "dev.tsv")]) == 2
    assert "row 1" in capsys.readouterr().err


def test_few_distinct_words_are_labels(folder: Path, tmp_path: Path) -> None:
    _, plan = propose(table(tmp_path, "single", 80, 3, most=1), out=tmp_path / "run", settings=["model.width=16"])
    assert plan.recipe.task.kind == "classify" and plan.task.labels.names == ("high", "low", "mid")
    assert plan.recipe.task.source.kind == "sound"


def test_missing_files_are_named_with_their_row(tmp_path: Path) -> None:
    path = table(tmp_path, "some", 30, 3)
    (tmp_path / "some" / "4.wav").unlink()
    with pytest.raises(DataError, match=r"no file 'some/4\.wav'") as caught:
        propose(path, out=tmp_path / "run")
    assert "some.tsv" in str(caught.value) and "row 5" in str(caught.value)


def test_rows_are_those_of_the_file(tmp_path: Path) -> None:
    """A row that was dropped before counts too."""
    path = Path(table(tmp_path, "some", 30, 3))
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join([*lines[:2], "three\tcells\there\n", *lines[2:]]))
    (tmp_path / "some" / "4.wav").write_text("no sound at all")
    with pytest.raises(DataError, match=r"'some/4\.wav' is no \.wav file") as caught:
        propose(str(path), out=tmp_path / "run")
    assert "row 6" in str(caught.value)


def test_a_damaged_test_file_is_named_before_training(tmp_path: Path) -> None:
    train, test = table(tmp_path, "train", 30, 3), table(tmp_path, "test", 4, 4)
    cut = tmp_path / "test" / "2.wav"
    cut.write_bytes(cut.read_bytes()[:-500])
    settings = ["model.width=8", "training.steps=9"]
    with pytest.raises(DataError, match="are there") as caught:
        regard.train(train, test=test, out=tmp_path / "run", settings=settings, device="cpu")
    assert str(caught.value.where).startswith("row 3, ") and not (tmp_path / "run").exists()


@pytest.mark.parametrize("name", ["units.json", "most_frequent.json"])
@pytest.mark.parametrize("content", ["", "[]", '["a", "a"]', '[""]', "[1]", "9" * 5000])
def test_damaged_files_are_named(run: Run, tmp_path: Path, name: str, content: str) -> None:
    shutil.copytree(run.path, tmp_path / "run")
    (tmp_path / "run" / "fields" / name).write_text(content)
    with pytest.raises(RunError, match="missing or damaged") as caught:
        regard.load(tmp_path / "run", "cpu")
    assert name in str(caught.value)


def paths_of(log_probs: torch.Tensor) -> Iterator[tuple[tuple[int, ...], tuple[int, ...], float]]:
    """Every path, what it writes, and its probability."""
    probabilities = log_probs.double().exp()
    for path in itertools.product(range(log_probs.shape[1]), repeat=len(log_probs)):
        merged = [unit for unit, _ in itertools.groupby(path)]
        weight = float(np.prod([probabilities[step, unit] for step, unit in enumerate(path)]))
        yield path, tuple(unit for unit in merged if unit != BLANK), weight


@pytest.fixture
def log_probs() -> torch.Tensor:
    torch.manual_seed(3)
    return torch.randn(5, 3, dtype=torch.float64).log_softmax(-1)


def answers_of(log_probs: torch.Tensor) -> dict[tuple[int, ...], float]:
    found: dict[tuple[int, ...], float] = {}
    for _, answer, weight in paths_of(log_probs):
        found[answer] = found.get(answer, 0) + weight
    return found


def test_likelihoods_are_sums_over_all_paths(log_probs: torch.Tensor) -> None:
    wanted = answers_of(log_probs)
    rows = log_probs.expand(len(wanted), -1, -1)
    found = log_likelihoods(rows, torch.full((len(wanted),), 5), pad([*wanted]))
    np.testing.assert_allclose(found.exp(), [*wanted.values()], rtol=1e-6)
    too_long = log_likelihoods(log_probs[None], torch.tensor([5]), pad([[1, 1, 1, 1]]))
    assert float(too_long) == 0


def test_a_wide_prefix_beam_finds_all_answers(log_probs: torch.Tensor) -> None:
    wanted = answers_of(log_probs)
    found = prefix_beam_search(log_probs, 1000)
    assert {tuple(one.tokens): pytest.approx(np.exp(one.score)) for one in found} == wanted
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    narrow = prefix_beam_search(log_probs, 3)
    assert len(narrow) == 3 and narrow[0].score <= found[0].score + 1e-12


def test_prefix_beams_sum_up_what_the_best_path_does_not() -> None:
    """Blank is likeliest at both steps, and yet "1" is likelier than silence: three paths write it."""
    log_probs = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log()
    assert best_path(log_probs) == []
    [best, other] = prefix_beam_search(log_probs, 2)
    assert best.tokens == [1] and np.exp(best.score) == pytest.approx(0.64)
    assert other.tokens == [] and np.exp(other.score) == pytest.approx(0.36)


def test_best_paths_merge_repeats_before_blanks() -> None:
    path = torch.tensor([1, 1, 0, 1, 2, 2, 0, 0, 3])
    log_probs = torch.nn.functional.one_hot(path, 4).float().log_softmax(-1)
    assert best_path(log_probs) == [1, 1, 2, 3]
    assert [row[0].tokens for row in transcribe(log_probs[None], torch.tensor([4]), 1, 1)] == [[1, 1]]


def test_occupancy_is_over_all_paths_of_the_answer(log_probs: torch.Tensor) -> None:
    answer, wanted = (1, 1, 2), np.zeros((3, 5))
    for path, written, weight in paths_of(log_probs):
        if written == answer:
            place = -1
            for step, unit in enumerate(path):
                place += unit != BLANK and (step == 0 or path[step - 1] != unit)
                if unit != BLANK:
                    wanted[place, step] += weight
    with torch.inference_mode():
        found = occupancy(log_probs.clone(), answer)
    np.testing.assert_allclose(found, wanted / wanted.sum(1, keepdims=True), rtol=1e-5, atol=1e-7)


@torch.no_grad()
def test_padding_does_not_matter(run: Run) -> None:
    task, model = run.predictor.task, run.predictor.model
    examples = [task.example({"source": Recording(said(words, 5).astype(np.float32), 8000), "target": " ".join(words)})
                for words in (["low"], ["high", "mid", "low"])]  # fmt: skip
    whole = sum(float(task.loss(model, collate([one])).total) for one in examples)
    together = task.loss(model, collate(examples))
    assert float(together.total) == pytest.approx(whole, rel=1e-4) and together.count == 4


@torch.no_grad()
def test_rows_that_cannot_be_aligned_are_left_out_and_counted(run: Run) -> None:
    task, model = run.predictor.task, run.predictor.model
    short = task.example({"source": Recording(said(["low"], 5).astype(np.float32), 8000), "target": "low " * 40})
    loss = task.loss(model, collate([short]))
    assert float(loss.total) == 0 and loss.count == float(loss.parts["too_short"]) == 40


def test_units_of_both_kinds() -> None:
    words, characters = Units.learn("words", ["b a", "a"]), Units.learn("characters", ["b  a", "a"])
    assert words.units == ("a", "b") and words.encode(" b c a ") == [2, 1] and words.decode([2, 1]) == "b a"
    assert characters.units == (" ", "a", "b") and characters.decode(characters.encode("ab  bcb")) == "ab bb"
    assert characters.pieces([3, 1, 2]) == ["b", "▁", "a"] and words.pieces([1]) == ["▁a"]
    with pytest.raises(DataError, match="different words"):
        Units.learn("words", [str(number) for number in range(20_001)])


def test_error_rates_are_those_of_jiwer() -> None:
    draw = np.random.default_rng(1)
    found, wanted = ([" ".join(draw.choice([*"abc"], draw.integers(1, 9))) for _ in range(50)] for _ in range(2))
    assert word_error_rate(found, wanted) == pytest.approx(100 * jiwer.wer(wanted, found))
    assert character_error_rate(found, wanted) == pytest.approx(100 * jiwer.cer(wanted, found))
    assert edit_distance("kitten", "sitting") == 3 and edit_distance("", "abc") == 3
    assert word_error_rate(["", "b b b"], ["a", "b"]) == 150


@pytest.fixture
def digits() -> str:
    folder = Path(os.environ.get("REGARD_DATA", "")) / "speech_to_text" / "fsdd"
    if not os.environ.get("REGARD_DATA") or not (folder / "wav.zip").exists():
        pytest.skip("REGARD_DATA names no folder with speech_to_text/fsdd")
    return str(folder)


def test_spoken_digits_are_split_as_published(digits: str) -> None:
    corpus = SpokenDigits(folder=digits).load()
    assert [len(rows) for rows in (corpus.train, corpus.dev, corpus.test)] == [2520, 180, 300]
    assert corpus.test[0]["source"].endswith("0_george_0.wav") and corpus.test[0]["target"] == "zero"
    sides = SpokenDigits(folder=digits, unseen_speaker="theo").load()
    speakers = [{row["source"].split("_")[-2] for row in rows} for rows in (sides.train, sides.dev, sides.test)]
    assert speakers[2] == {"theo"} and "theo" not in speakers[0] | speakers[1]
    with pytest.raises(DataError, match="no speaker 'teo'") as caught:
        SpokenDigits(folder=digits, unseen_speaker="teo").load()
    assert "theo" in str(caught.value.hint)


def test_strings_of_digits_are_a_function_of_the_seed(digits: str) -> None:
    one, same, other = (
        SpokenDigits(folder=digits, strings=True, seed=seed, train_strings=9, held_strings=5).load()
        for seed in (1, 1, 2)
    )
    assert one.fingerprint == same.fingerprint != other.fingerprint
    np.testing.assert_array_equal(one.train[3]["source"].samples, same.train[3]["source"].samples)
    for row in one.test:
        names = row["source"].name.split(" + ")
        assert len({name.split("_")[1] for name in names}) == 1 and 2 <= len(names) == len(row["target"].split()) <= 5
        assert all(int(name[:-4].split("_")[2]) < 5 for name in names)


def test_digits_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        SpokenDigits(folder=str(tmp_path)).load()
    (tmp_path / "files.tsv").write_text(
        "file\tdigit\tspeaker\tsplit\n0_a_0.wav\t0\ta\ttest\n0_a_1.wav\tten\ta\ttrain\n"
    )
    with pytest.raises(DataError, match="digit 'ten'") as caught:
        SpokenDigits(folder=str(tmp_path)).load()
    assert "files.tsv:3" in str(caught.value)
