"""Corpora kept on disk: the same rows and the same training as in memory, whatever interrupts their making."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import regard
from regard.data import arrays
from regard.data import pairs as files_module
from regard.data.arrays import Arrays, Ragged, cache_folder, kept
from regard.data.corpus import Corpus
from regard.data.pairs import Files
from regard.data.rows import TextRows
from regard.errors import DataError
from regard.randomness import shuffled
from regard.tasks.encoded import Encoded

WORDS = "one two three four five six seven eight nine ten".split()
ROWS = [{"source": f"{a} and {b} 猫", "target": f"{b} {a}"} for a in WORDS for b in WORDS]
TINY = ["model.width=16", "model.encoder.layers=1", "model.decoder.layers=1", "training.steps=4", "training.seed=3"]


@pytest.fixture
def pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that counts as large, and a cache for it; chunks are small."""
    monkeypatch.setenv("REGARD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(arrays, "CHUNK", 7)
    monkeypatch.setattr(files_module, "CHUNK", 7)
    monkeypatch.setattr(files_module, "LARGE", 0)
    path = tmp_path / "pairs.tsv"
    lines = [f"{row['source']}\t{row['target']}\n" for row in ROWS]
    path.write_text("".join([*lines, "\tx\n", *lines[:3], "too\tmany\tcells\n", "...\ty\n"]), "utf-8")
    return path


def load(path: Path, large: int = 0) -> Corpus:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files_module, "LARGE", large)
        return Files(train=(str(path),)).load()


def scribble(path: Path) -> None:
    """What a kill in the middle of writing leaves."""
    with path.open("ab") as stream:
        stream.write(b"half a chunk!")


def same(one: Corpus, other: Corpus) -> bool:
    sides = zip(one[:3], other[:3], strict=True)
    return all(list(a) == list(b) for a, b in sides) and one[3:] == other[3:]


def test_on_disk_is_as_in_memory(pairs: Path) -> None:
    stored, in_memory = load(pairs), load(pairs, large=1 << 30)
    assert same(stored, in_memory)
    assert stored.train.folder and not in_memory.train.folder
    assert sorted(map(str, [*stored.train, *stored.dev])) == sorted(map(str, ROWS))
    assert stored.dropped == {"empty source": 1, "duplicate": 3, "wrong number of columns": 1, "no word in source": 1}


def test_rows_are_read_once(pairs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load(pairs)
    monkeypatch.setattr(files_module, "_without_faults", None)
    assert same(load(pairs), first)
    assert len(list(cache_folder().iterdir())) == 1


def test_other_content_is_another_corpus(pairs: Path) -> None:
    first = load(pairs)
    pairs.write_text(pairs.read_text("utf-8").replace("one two", "two one"), "utf-8")
    assert load(pairs).fingerprint != first.fingerprint
    assert len(list(cache_folder().iterdir())) == 2


@pytest.mark.parametrize("after", [0, 1, 5, 14])
def test_an_interruption_costs_a_chunk(pairs: Path, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    whole = load(pairs, large=1 << 30)
    append, count = Arrays.append, iter(range(100))

    def interrupted(self: Arrays, *chunk: object, **noted: object) -> None:
        if self.folder and next(count) == after:
            scribble(self.folder / "source")
            raise KeyboardInterrupt
        append(self, *chunk, **noted)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(Arrays, "append", interrupted)
        with pytest.raises(KeyboardInterrupt):
            load(pairs)
    assert same(load(pairs), whole)


def test_training_from_disk_is_training_from_memory(pairs: Path, tmp_path: Path) -> None:
    regard.train(pairs, out=tmp_path / "stored", settings=[*TINY, "training.precision=fp32"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files_module, "LARGE", 1 << 30)
        regard.train(pairs, out=tmp_path / "memory", settings=[*TINY, "training.precision=fp32"])
    weights = [(tmp_path / name / "model.safetensors").read_bytes() for name in ("stored", "memory")]
    assert weights[0] == weights[1]


def test_a_batch_is_what_its_rows_say() -> None:
    encoded = Encoded(*(Ragged(np.arange(10, 16, dtype=np.uint16), np.array(ends)) for ends in ([2, 3, 6], [1, 1, 6])))
    batch = encoded.batch(np.array([2, 0, 1]))
    assert batch.source.values.tolist() == [[13, 14, 15], [10, 11, 0], [12, 0, 0]]
    assert batch.target.values.tolist() == [[11, 12, 13, 14, 15], [10, 0, 0, 0, 0], [0, 0, 0, 0, 0]]
    assert (batch.source.lengths.tolist(), batch.target.lengths.tolist()) == ([3, 2, 1], [5, 1, 0])
    assert encoded.lengths[np.array([1, 2])].tolist() == [[1, 0], [3, 5]]


def test_no_room_is_said(pairs: Path, tmp_path: Path) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    with pytest.raises(DataError, match="REGARD_CACHE"):
        load(pairs)


def test_arrays_are_cut_back_to_what_was_noted(tmp_path: Path) -> None:
    one = Arrays(tmp_path)
    one.append(one.records("words", [np.array([1, 2], np.uint16), np.array([3], np.uint16)]), read=2)
    scribble(tmp_path / "words")
    two = Arrays(tmp_path)
    two.append(two.records("words", [np.array([4, 5, 6], np.uint16)]), read=3)
    assert [record.tolist() for record in two.ragged("words")] == [[1, 2], [3], [4, 5, 6]]
    assert two.ragged("words").lengths(np.array([2, 0, 1, 0])).tolist() == [3, 2, 1, 2]
    assert (two.noted, two.done) == ({"read": 3}, False)
    two.finish()
    assert Arrays(tmp_path).done


@pytest.mark.parametrize("damage", ["not JSON", "[]", '{"format": 0, "sizes": {}, "types": {}, "noted": {}}', None])
def test_a_damaged_cache_is_made_anew(pairs: Path, damage: str | None) -> None:
    before = load(pairs)
    folder = before.train.folder
    assert folder
    if damage is None:
        (folder / "source").unlink()
    else:
        (folder / "arrays.json").write_text(damage)
    assert same(load(pairs), before)


def test_the_form_of_a_file_is_part_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REGARD_CACHE", str(tmp_path / "cache"))
    sources = []
    for name in ("pairs.csv", "pairs.tsv"):
        (tmp_path / name).write_text("".join(f"w{row},x\ty{row}\n" for row in range(40)))
        sources.append(sorted(row["source"] for row in load(tmp_path / name).train)[0])
    assert [source.endswith(",x") for source in sources] == [False, True]


def test_readers_see_what_a_writer_finished(tmp_path: Path) -> None:
    with kept(tmp_path / "a") as writer:
        writer.append({"numbers": np.arange(5)})
        writer.finish()
    with kept(tmp_path / "a") as one, kept(None) as none:
        assert one.done and not none.done
    assert one["numbers"].tolist() == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="read-only"):
        one["numbers"][0] = 9
    assert json.loads((tmp_path / "a" / "arrays.json").read_text())["sizes"] == {"numbers": 5}


def test_rows_choose_and_sample() -> None:
    rows = TextRows.of(ROWS)
    assert (rows[3], rows[-1], rows[1:3]) == (ROWS[3], ROWS[-1], ROWS[1:3])
    chosen = rows.choose(np.array([4, 2])).choose(np.array([1]))
    assert list(chosen) == [ROWS[2]]
    assert list(rows.texts("target", 10)) == [row["target"] for row in ROWS[::10]]
    assert len({rows.digest(), rows.choose(np.arange(99)).digest(), TextRows.of(ROWS[:99]).digest()}) == 3
    assert not TextRows.of([])


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 16, 17, 64, 1000])
def test_shuffled_is_a_permutation(count: int) -> None:
    sent = shuffled(np.arange(count), count, "order", 1)
    assert sorted(sent.tolist()) == list(range(count))
    assert np.concatenate([shuffled(np.arange(k, k + 1), count, "order", 1) for k in range(count)]).tolist() == [*sent]


def test_shuffled_is_far_from_order() -> None:
    orders = [shuffled(np.arange(6), 6, "order", seed) for seed in range(3000)]
    places = Counter(order[0] for order in orders)
    assert min(places.values()) > 400 and max(places.values()) < 600
    assert len({tuple(order) for order in orders}) > 600
    many = shuffled(np.arange(50), 10**12, "order")
    assert len(set(many.tolist())) == 50 and many.std() > 10**11
    assert abs(np.corrcoef(shuffled(np.arange(10_000), 10_000, "x"), np.arange(10_000))[0, 1]) < 0.05
