"""Pictures as sources: read whatever they are, cut into patches, learnt from a table of paths, looked at."""

import gzip
import math
import os
import random
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

import regard
from regard.api import Run, propose
from regard.data.digit_strips import IMAGES, LABELS, Digits, DigitStrips, read_idx
from regard.data.image import PictureField, PictureForm, read_picture, unit
from regard.data.tokenisers import Vocabulary
from regard.errors import DataError, RunError, SettingsError
from regard.inspection.backdrop import Backdrop
from regard.layers.embeddings import PatchEmbedding
from regard.padded import Padded, pad
from regard.recipes import named_recipe
from regard.settings import parse
from regard.tasks.generate import GenerateSettings
from regard.tasks.sources import PictureSource

GLYPHS = {"a": np.tri(8), "b": np.eye(8) + np.eye(8)[::-1], "c": np.kron(np.eye(2), np.ones((4, 4)))}
SMALL = ["model.width=32", "training.evaluate_every=100", "training.precision=fp32", "batching.tokens=256"]


def png(path: Path, pixels: np.ndarray, **options: object) -> Path:
    Image.fromarray(pixels).save(path, **options)
    return path


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def bomb(path: Path, side: int) -> Path:
    """A small file that says it has side * side pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 999)) + chunk(b"IEND", b""))
    return path


def words(number: int, seed: int) -> list[str]:
    draw = random.Random(seed)
    return ["".join(draw.choice("abc") for _ in range(draw.randint(1, 3))) for _ in range(number)]


def write(folder: Path, texts: list[str], name: str = "table.tsv") -> str:
    """A table with a picture of each text, letter beside letter, a little noise on it."""
    draw = np.random.default_rng(len(texts))
    lines = ["picture\ttext"]
    for number, text in enumerate(texts):
        clean = np.hstack([GLYPHS[letter] > 0 for letter in text]) * 200.0
        png(folder / f"{name}{number}.png", (clean + draw.uniform(0, 55, clean.shape)).astype(np.uint8))
        lines.append(f"{name}{number}.png\t{text}")
    (folder / name).write_text("\n".join(lines) + "\n")
    return str(folder / name)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("pictures")
    source = ["task.source.height=8", "task.source.patch_width=4", "task.source.stem=8", "task.metric=exact_match"]
    train, dev = write(folder, words(200, 1)), write(folder, words(30, 2), "dev.tsv")
    layers = ["model.encoder.layers=1", "model.decoder.layers=1", "model.dropout=0"]
    settings = [*SMALL, *source, *layers, "training.steps=300", "training.optimisation.learning_rate=8e-3"]
    return regard.train(train, dev=dev, out=folder / "run", settings=settings, device="cpu")


def test_a_table_of_pictures_is_learnt(run: Run) -> None:
    assert run.predictor.recipe.task.kind == "generate" and run.predictor.recipe.task.source.kind == "picture"
    assert run.scores["exact_match"] > 90
    assert run.trained.baseline["exact_match"] < 50 and run.predictor.task.baseline_name == "most frequent answer"


def test_paths_and_pixels_are_answered_alike(run: Run) -> None:
    path = str(run.path.parent / "dev.tsv0.png")
    pixels = np.asarray(Image.open(path))
    one, other, blank = run.predictor.predict([path, {"source": pixels}, ""])
    assert one.text == other.text == words(30, 2)[0] and blank.text == ""
    again = regard.load(run.path, "cpu")
    assert again.predict([path]) == run.predictor.predict([path])
    with pytest.raises(DataError, match="no such picture") as caught:
        again.predict([path, "nowhere.png"])
    assert "row 2" in str(caught.value.where)


def test_attention_lies_over_the_picture(run: Run) -> None:
    maps = run.predictor.inspect(str(run.path.parent / "dev.tsv0.png"))
    steps = 2 * len(words(30, 2)[0])
    assert maps.source == tuple(f"▁x={4 * step}" for step in range(steps))
    assert maps.maps["cross/average"].shape[2] == steps and maps.backdrop is not None
    assert maps.backdrop.pixels.shape == (8, 4 * steps, 3) and maps.backdrop.boxes[1] == (4.0, 0.0, 8.0, 8.0)
    assert '"backdrop":{"height":8' in maps.to_html()


def test_pictures_with_labels_are_classified(tmp_path: Path) -> None:
    settings = [*SMALL, "task.source.height=8", "task.source.stem=8", "training.steps=60"]
    found = regard.train(write(tmp_path, ["a", "b", "c"] * 20), out=tmp_path / "run", settings=settings, device="cpu")
    assert found.predictor.recipe.task.kind == "classify" and found.scores["accuracy"] == 100
    assert found.predictor.task.baseline_name == "most frequent answer" and found.trained.baseline["accuracy"] < 60
    (tmp_path / "run" / "fields" / "most_frequent.json").write_text("[]")
    with pytest.raises(RunError, match="missing or damaged"):
        regard.load(tmp_path / "run", "cpu")


def test_a_missing_picture_is_named_with_its_row(tmp_path: Path) -> None:
    table = write(tmp_path, words(30, 1))
    (tmp_path / "table.tsv7.png").unlink()
    with pytest.raises(DataError, match=r"no file 'table.tsv7.png'") as caught:
        propose(table, out=tmp_path / "run")
    assert "row 8" in str(caught.value.where) and "relative" in str(caught.value.hint)


def test_a_picture_has_nothing_to_copy() -> None:
    with pytest.raises(SettingsError, match="no tokens to copy") as caught:
        parse(GenerateSettings, {"source": {"kind": "picture"}, "head": {"kind": "copy"}}, "task")
    assert "tokens" in str(caught.value)


@pytest.mark.parametrize("patch", [(16, 4), (4, 4), (8, 8)])
@pytest.mark.parametrize("colour", [False, True])
def test_patches_are_cut_as_by_hand(patch: tuple[int, int], colour: bool) -> None:
    form = PictureForm(height=16, patch_height=patch[0], patch_width=patch[1], colour=colour)
    pixels = np.random.default_rng(1).random((16, 21, form.channels), np.float32)
    cut = form.patches(pixels)
    boxes = form.boxes(len(cut))
    assert len(cut) == (16 // patch[0]) * math.ceil(21 / patch[1])
    for patch_pixels, (left, top, right, bottom) in zip(cut, boxes, strict=True):
        inside = pixels[int(top) : int(bottom), int(left) : int(right)]
        whole = np.pad(inside, [(0, 0), (0, int(right - left) - inside.shape[1]), (0, 0)], mode="edge")
        assert (patch_pixels == whole.ravel()).all()
    assert (form.picture(cut)[:, :21] == pixels).all()


def test_the_stem_is_convolutions_over_the_whole_picture() -> None:
    torch.manual_seed(1)
    form = PictureForm(height=16, patch_height=8, patch_width=4)
    embedding = PatchEmbedding((8, 4, 1), 2, 6, stem=3).double()
    torch.nn.init.normal_(embedding.row)
    pixels = np.random.default_rng(1).random((16, 12, 1), np.float32)
    found = embedding(
        pad([form.patches(pixels)])._replace(values=torch.from_numpy(form.patches(pixels))[None].double())
    )
    picture = torch.from_numpy(pixels).double().permute(2, 0, 1)[None]
    for one in embedding.convolutions:
        picture = F.relu(F.conv2d(picture, one.weight, one.bias, stride=2, padding=1))
    for step, (left, top, *_) in enumerate(form.boxes(6)):
        row, column = int(top) // 4, int(left) // 4
        block = picture[0, :, row : row + 2, column].T.reshape(-1)
        wanted = embedding.norm(embedding.projection(block) + embedding.row[int(top) // 8])
        assert torch.allclose(found.values[0, step], wanted)


@pytest.mark.parametrize("stem", [0, 4])
def test_padding_does_not_matter(stem: int) -> None:
    torch.manual_seed(1)
    form = PictureForm(height=8, patch_width=4)
    embedding = PatchEmbedding((8, 4, 1), 1, 6, stem)
    short, long = (form.patches(np.random.default_rng(1).random((8, width, 1), np.float32)) for width in (12, 32))
    both = pad([short, long])
    disturbed = torch.where(both.mask[..., None], both.values, 9.0)
    alone, beside = embedding(pad([short])).values[0], embedding(Padded(disturbed, both.lengths)).values[0, :3]
    assert torch.allclose(alone, beside, atol=1e-6)


def test_all_kinds_of_files_are_read(tmp_path: Path) -> None:
    ramp = np.linspace(0, 255, 64).astype(np.uint8).reshape(8, 8)
    grey = read_picture(png(tmp_path / "grey.png", ramp))
    assert np.allclose(grey[..., 0], ramp / 255)
    deep = read_picture(png(tmp_path / "deep.png", ramp.astype(np.uint16) * 257))
    assert np.allclose(deep, grey, atol=1e-6)
    one = read_picture(png(tmp_path / "one.png", ramp[:1, :1] + np.uint8(51)))
    assert one.shape == (1, 1, 1) and float(one[0, 0, 0]) == pytest.approx(0.2)
    colour = np.stack([ramp, ramp.T, 255 - ramp], -1)
    for name, mode, most in (("p.png", "P", 0.25), ("cmyk.jpg", "CMYK", 0.15), ("rgb.jpg", "RGB", 0.15)):
        Image.fromarray(colour).convert(mode).save(tmp_path / name)
        found = read_picture(tmp_path / name)
        assert found.shape == (8, 8, 3) and np.abs(found - colour / 255).mean() < most
    clear = np.dstack([colour, np.zeros_like(ramp)])
    assert (read_picture(png(tmp_path / "clear.png", clear)) == 1).all()
    assert (read_picture(png(tmp_path / "bits.png", ramp > 99))[..., 0] == (ramp > 99)).all()


def test_a_camera_held_sideways(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the upper edge is on the right
    wide = np.zeros((8, 16), np.uint8)
    wide[:, :8] = 255
    found = read_picture(png(tmp_path / "turned.png", wide, exif=exif))
    assert found.shape == (16, 8, 1) and (found[:8] == 1).all() and (found[8:] == 0).all()


def truncated(folder: Path) -> Path:
    path = png(folder / "cut.png", np.random.default_rng(1).integers(0, 255, (64, 64)).astype(np.uint8))
    path.write_bytes(path.read_bytes()[:2000])
    return path


def renamed(folder: Path) -> Path:
    (folder / "text.png").write_text("no picture at all\n" * 9)
    return folder / "text.png"


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (truncated, "damaged"),
        (renamed, "no picture in PNG or JPEG"),
        (lambda folder: bomb(folder / "bomb.png", 30_000), "at most 67,108,864"),
        (lambda folder: bomb(folder / "large.png", 10_000), "at most 67,108,864"),
        (lambda folder: folder, "a folder, not a picture"),
        (lambda folder: folder / "nothing.png", "no such picture"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, make: Callable[[Path], Path], told: str) -> None:
    path = make(tmp_path)
    with pytest.raises(DataError, match=told) as caught:
        read_picture(path)
    assert caught.value.where == str(path) and caught.value.hint


@pytest.mark.parametrize("pixels", [np.ones((2, 2, 2)), np.ones(3), np.full((2, 2), np.nan), np.full((2, 2), 1.5)])
def test_what_is_no_picture(pixels: np.ndarray) -> None:
    with pytest.raises(DataError):
        unit(pixels)


def test_pictures_come_to_one_height() -> None:
    field = PictureField(PictureForm(height=16, patch_width=4, most_width=64))
    half = np.repeat(np.array([[0, 255]], np.uint8), 32, axis=0).repeat(16, axis=1)  # 32 x 32, dark on the left
    record = field.source({"source": half})
    assert record.shape == (4, 64) and record[0].max() < 0.1 and record[-1].min() > 0.9
    with pytest.raises(DataError, match="a picture of 90 x 1 pixels"):
        field.source({"source": np.zeros((1, 90), np.uint8)})
    colour = np.zeros((16, 4, 3), np.uint8)
    colour[..., 1] = 255
    assert np.allclose(field.source({"source": colour}), 0.587)


def test_a_spectrogram_is_a_backdrop() -> None:
    frames = np.zeros((40, 8), np.float32)
    frames[:10, 0] = 5
    found = Backdrop.spectrogram(frames, 10)
    assert found.pixels.shape == (8, 40, 3) and found.boxes[-1] == (36.0, 0.0, 40.0, 8.0)
    assert (found.pixels[-1, :10] == 255).all() and not found.pixels[0].any()


def test_curves_are_a_backdrop() -> None:
    """One that rises from the lower left corner, and one that never changes, along the bottom or top."""
    values = np.stack([np.arange(90.0), np.ones(90)], 1)
    found = Backdrop.curves(values, [*range(0, 90, 10)])
    assert found.pixels.shape == (120, 900, 3) and found.boxes[1] == (100.0, 0.0, 200.0, 120.0)
    dark = [np.flatnonzero(column < 128) for column in found.pixels[:, ::90, 0].T]
    rising = np.array([places[0] for places in dark])
    assert (np.diff(rising) < 0).all() and (found.pixels < 128).any(axis=(0, 2)).all()


def idx(path: Path, values: np.ndarray) -> None:
    header = bytes([0, 0, 8, values.ndim]) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes(), 1))


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10,000 pictures, each its number in its first pixels."""
    folder = tmp_path_factory.mktemp("digits")
    pictures = np.zeros((10_000, 28, 28), np.uint8)
    pictures[:, 0, 0], pictures[:, 0, 1] = np.arange(10_000) // 100 + 1, np.arange(10_000) % 100 + 1
    idx(folder / IMAGES, pictures)
    idx(folder / LABELS, (np.arange(10_000) % 10).astype(np.uint8))
    return folder


def test_no_digit_is_on_two_sides(digits: Path) -> None:
    data = DigitStrips(folder=str(digits), train=60, dev=20, test=20)
    sides = data.load()[:3]
    allowed = (0, 7500), (7500, 8000), (8000, 10_000)
    for rows, (first, end) in zip(sides, allowed, strict=True):
        for row in rows:
            strip = row["source"].astype(int)
            places = [(top, left) for top, left in np.argwhere(strip) if strip[top, left - 1] == 0 or left == 0]
            found = [
                100 * (strip[top, left] - 1) + strip[top, left + 1] - 1
                for top, left in sorted(places, key=lambda p: p[1])
            ]
            assert all(first <= number < end for number in found)
            assert "".join(str(number % 10) for number in found) == row["target"]
    again = data.load()
    assert all((one["source"] == other["source"]).all() for one, other in zip(sides[0], again.train, strict=True))
    assert again.fingerprint == data.load().fingerprint != DigitStrips(folder=str(digits), seed=2).load().fingerprint


@pytest.mark.parametrize(
    "spoil", [lambda content: content[:-1], lambda content: content + b"0", lambda content: content[:9]]
)
def test_damaged_digits_are_named(tmp_path: Path, spoil: Callable[[bytes], bytes]) -> None:
    idx(tmp_path / "some.gz", np.zeros((3, 4), np.uint8))
    assert read_idx(tmp_path / "some.gz", 2).shape == (3, 4)
    (tmp_path / "some.gz").write_bytes(gzip.compress(spoil(gzip.decompress((tmp_path / "some.gz").read_bytes()))))
    with pytest.raises(DataError, match="no IDX file"):
        read_idx(tmp_path / "some.gz", 2)
    with pytest.raises(DataError, match="cannot be read"):
        read_idx(tmp_path / "other.gz", 2)


def test_real_digits() -> None:
    folder = Path(os.environ.get("REGARD_DATA", "")) / "image_to_text" / "mnist-t10k"
    if not folder.is_dir():
        pytest.skip("set REGARD_DATA to a folder with image_to_text/mnist-t10k")
    corpus = named_recipe("digit-strips", str(folder)).data.load()
    assert (len(corpus.train), len(corpus.dev), len(corpus.test)) == (40_000, 500, 1_000)
    lengths = {len(row["target"]) for row in corpus.test[:200]}
    assert (
        lengths == set(range(3, 9))
        and PictureSource().learn(corpus.train, Vocabulary(), ()).source(corpus.test[0]).max() == 1
    )
    assert isinstance(Digits(np.zeros((1, 28, 28), np.uint8), np.zeros(1, np.uint8)).part(0, 1), Digits)
