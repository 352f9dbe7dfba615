"""Sound: files of every form, resampling, log-mel frames, what training hides, faults that are named."""

import io
import struct
import wave
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from regard.data import recordings
from regard.data.audio import Frames, SoundField, SpecAugment, Voices, log_mel, mel_filters, normalised, resample
from regard.data.recordings import Recording, read_recording
from regard.errors import DataError, InputError
from regard.layers.embeddings import FrameEmbedding
from regard.padded import Padded
from regard.tasks.sources import SoundSource
from regard.tasks.task import Example


def tone(hertz: float, seconds: float, rate: int) -> np.ndarray:
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(int(seconds * rate)) / rate)


def wav(samples: np.ndarray, rate: int = 8000, width: int = 2, channels: int = 1) -> bytes:
    """As the standard library writes them; one byte has no sign."""
    whole = np.round(samples * (2 ** (8 * width - 1) - 1)).astype(np.int64)
    kind = "<u1" if width == 1 else "<i4"
    numbers = (whole + 128 if width == 1 else whole).astype(kind).view(np.uint8).reshape(-1, 1 if width == 1 else 4)
    stream = io.BytesIO()
    with wave.open(stream, "wb") as file:
        file.setparams((channels, width, rate, 0, "NONE", ""))
        file.writeframes(numbers[:, :width].tobytes())
    return stream.getvalue()


def written(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize(("width", "rounding"), [(1, 2**-7), (2, 2**-14), (3, 2**-22), (4, 2**-22)])
def test_wav_files_of_all_widths(tmp_path: Path, width: int, rounding: float) -> None:
    samples = tone(440, 0.1, 8000)
    found = read_recording(written(tmp_path / "a.wav", wav(samples, width=width)))
    assert found.rate == 8000 and found.name == "a.wav" and found.seconds == pytest.approx(0.1)
    np.testing.assert_allclose(found.samples, samples, atol=rounding)


def test_channels_are_mixed(tmp_path: Path) -> None:
    both = np.stack([tone(440, 0.1, 44100), tone(880, 0.1, 44100)], axis=1)
    found = read_recording(written(tmp_path / "a.WAV", wav(both.reshape(-1), 44100, channels=2)))
    np.testing.assert_allclose(found.samples, both.mean(axis=1), atol=1e-4)


@pytest.mark.parametrize("form", ["flac", "ogg", "wav"])
def test_other_files_by_soundfile(tmp_path: Path, form: str) -> None:
    """A wav file of fractions too, which the standard library does not read."""
    soundfile = pytest.importorskip("soundfile")
    samples, path = tone(440, 0.5, 16000), tmp_path / f"a.{form}"
    soundfile.write(path, samples, 16000, subtype={"wav": "FLOAT", "flac": "PCM_16", "ogg": "VORBIS"}[form])
    found = read_recording(path)
    assert found.rate == 16000
    np.testing.assert_allclose(found.samples[800:-800], samples[800:-800], atol=0.02 if form == "ogg" else 1e-4)


def test_soundfile_is_asked_for_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "soundfile", None)
    with pytest.raises(InputError, match="needs soundfile, which is not installed") as caught:
        read_recording(written(tmp_path / "a.flac", b"fLaC"))
    assert "regard[audio]" in str(caught.value.hint)


WHOLE = wav(tone(440, 0.1, 8000))
FAULTS = {
    "without a sample": wav(np.zeros(0)),
    "promises 800 samples, and 300 are there": WHOLE[:644],
    "promises 1,073,741,823 samples": WHOLE[:40] + struct.pack("<I", 2**31 - 2) + WHOLE[44:],
    "not a wav file: file does not start with RIFF id": b"It is said that this is no sound.\n" * 9,
    "not a wav file": b"",
    "ends too early": WHOLE[:30],
    "7 samples a second": WHOLE[:24] + struct.pack("<I", 7) + WHOLE[28:],
    "a recording of 3,600 s, at most 300 s": wav(np.zeros(3600 * 1000), rate=1000, width=1),
    "64 bits": WHOLE[:32] + struct.pack("<HH", 8, 64) + WHOLE[36:],
}


@pytest.mark.parametrize("told", FAULTS)
def test_damaged_wav_files_are_named(tmp_path: Path, told: str) -> None:
    with pytest.raises(DataError, match=told) as caught:
        read_recording(written(tmp_path / "a.wav", FAULTS[told]))
    assert caught.value.where == str(tmp_path / "a.wav") and caught.value.hint


@pytest.mark.parametrize("form", ["flac", "wav"])
def test_damaged_files_of_other_forms(tmp_path: Path, form: str) -> None:
    pytest.importorskip("soundfile")
    content = b"fLaC" + bytes(99) if form == "flac" else WHOLE[:20] + struct.pack("<H", 77) + WHOLE[22:]
    with pytest.raises(DataError, match="not a sound file"):
        read_recording(written(tmp_path / f"a.{form}", content))


def test_paths_that_lead_nowhere(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such file"):
        read_recording(tmp_path / "a.wav")
    with pytest.raises(DataError, match="not a file"):
        read_recording(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        read_recording(Path("long" * 999 + ".wav"))


def test_samples_that_are_no_numbers() -> None:
    field, samples = SoundField(Frames()), tone(440, 0.1, 8000).astype(np.float32)
    samples[7] = np.nan
    with pytest.raises(DataError, match="no numbers"):
        field.source({"source": Recording(samples, 8000)})
    for given in (3, {"source": 3}, {"target": "one"}):
        with pytest.raises(DataError, match="a row is a path to sound"):
            field.row(given)


@pytest.mark.parametrize("samples", [np.zeros(4000), np.ones(4000), np.sign(tone(300, 0.5, 8000)), np.zeros(1)])
def test_silence_and_clipping_give_numbers(samples: np.ndarray) -> None:
    record = SoundField(Frames(rate=8000)).source({"source": Recording(samples.astype(np.float32), 8000)})
    assert np.isfinite(record).all() and np.abs(record).max() < 10


class TestArchives:
    """Files inside of a zip archive, never unpacked on disk."""

    @pytest.fixture
    def archive(self, tmp_path: Path) -> Path:
        with zipfile.ZipFile(tmp_path / "all.zip", "w", zipfile.ZIP_DEFLATED) as file:
            file.writestr("one.wav", WHOLE)
            file.writestr("in/two.wav", WHOLE)
            file.writestr("large.wav", bytes(1 << 16))
        return tmp_path / "all.zip"

    def test_are_read_in_place(self, archive: Path) -> None:
        for name in ("one.wav", "in/two.wav"):
            np.testing.assert_allclose(read_recording(archive / name).samples, tone(440, 0.1, 8000), atol=2**-14)
        assert [file.name for file in archive.parent.iterdir()] == ["all.zip"]

    def test_are_bounded(self, archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(recordings, "MOST_BYTES", 1 << 12)
        assert read_recording(archive / "one.wav").rate == 8000
        with pytest.raises(DataError, match="more than"):
            read_recording(archive / "large.wav")

    @pytest.mark.parametrize("name", ["none.wav", "../all.wav", "in"])
    def test_have_no_other_names(self, archive: Path, name: str) -> None:
        with pytest.raises(DataError, match="no such file"):
            read_recording(archive / name)

    def test_may_be_damaged(self, archive: Path) -> None:
        content = bytearray(archive.read_bytes())
        content[60:90] = bytes(30)
        with pytest.raises(DataError, match="damaged"):
            read_recording(written(archive.parent / "other.zip", bytes(content)) / "one.wav")
        with pytest.raises(DataError, match="damaged"):
            read_recording(written(archive.parent / "none.zip", b"no archive") / "one.wav")


@pytest.mark.parametrize(("rate", "wanted"), [(44100, 16000), (48000, 8000), (8000, 16000), (16000, 11025)])
def test_resampled_tones_are_tones(rate: int, wanted: int) -> None:
    found = resample(torch.from_numpy(tone(440, 0.5, rate)), rate, wanted)
    assert len(found) == np.ceil(int(0.5 * rate) * wanted / rate)
    np.testing.assert_allclose(found[300:-300], tone(440, 0.5, wanted)[300 : len(found) - 300], atol=1e-3)


def test_tones_that_a_rate_cannot_hold_are_gone() -> None:
    found = resample(torch.from_numpy(tone(6000, 0.5, 44100)), 44100, 8000)
    assert found[100:-100].abs().max() < 5e-3
    samples = torch.randn(50)
    assert resample(samples, 8000, 8000) is samples


@pytest.mark.parametrize(("rate", "mels"), [(8000, 40), (16000, 80)])
def test_log_mel_frames_are_those_of_transformers(rate: int, mels: int) -> None:
    samples = np.random.default_rng(1).standard_normal(rate // 2)
    window, hop, transform = rate // 40, rate // 100, 256 if rate == 8000 else 512
    bank = mel_filter_bank(transform // 2 + 1, mels, 0, rate / 2, rate, norm=None, mel_scale="htk")
    np.testing.assert_allclose(mel_filters(transform // 2 + 1, rate, mels), bank, atol=1e-6)
    # theirs puts the window in the middle of the transform, which leaves the size of each frequency as it is
    before = (transform - window) // 2
    padded = np.pad(samples, (before, transform))
    wanted = spectrogram(
        padded,
        window_function(window, "hann"),
        window,
        hop,
        transform,
        power=2,
        center=False,
        mel_filters=bank,
        log_mel="log",
    )
    found = log_mel(torch.from_numpy(samples).float(), rate, mels)
    assert len(found) == 1 + (len(samples) - window) // hop
    shifted = log_mel(torch.from_numpy(padded).float(), rate, mels)
    np.testing.assert_allclose(shifted.T[:, :20], wanted[:, :20], atol=2e-3)


def test_a_tone_is_loud_in_its_band_alone() -> None:
    found = log_mel(torch.from_numpy(tone(1000, 0.2, 8000)).float(), 8000, 40)
    centres = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + 4000 / 700), 42)[1:-1] / 2595) - 1)
    assert abs(centres[int(found.mean(0).argmax())] - 1000) < 60


def test_normalised_frames_do_not_hear_loudness_or_microphone() -> None:
    frames = torch.randn(50, 40)
    found = normalised(frames)
    torch.testing.assert_close(normalised(frames + torch.randn(40)), found, atol=1e-5, rtol=0)
    torch.testing.assert_close(found.mean(0), torch.zeros(40), atol=1e-5, rtol=0)
    assert float(found.square().mean()) == pytest.approx(1, abs=1e-3)


def test_steps_hold_neighbouring_frames() -> None:
    sound = Recording(np.random.default_rng(1).standard_normal(8000).astype(np.float32), 8000)
    single, four = (SoundField(Frames(rate=8000, stack=stack)) for stack in (1, 4))
    frames, steps = single.source({"source": sound}), four.source({"source": sound})
    assert frames.shape == (98, 40) and steps.shape == (25, 160)
    np.testing.assert_array_equal(steps.reshape(100, 40)[:98], frames)
    assert not steps.reshape(100, 40)[98:].any()
    assert four.steps(steps)[:3] == ["▁0.00 s", "▁0.04 s", "▁0.08 s"] and four.shown({"source": sound}) == "samples"


def test_what_training_hides() -> None:
    """Bands over all time and stretches over all mels, no wider than said, the same for the same seed."""
    augment, frames = SpecAugment(bands=1, widest=7, stretches=1, share=0.2), np.ones((60, 40), np.float32)
    widths = set()
    for seed in range(60):
        torch.manual_seed(seed)
        found = augment.masked(frames)
        bands, stretches = ~found.any(axis=0), ~found.any(axis=1)
        assert ((found == 0) == (bands[None] | stretches[:, None])).all()
        assert all(np.count_nonzero(np.diff(one, prepend=False, append=False)) in (0, 2) for one in (bands, stretches))
        widths.add((int(bands.sum()), int(stretches.sum())))
    assert {one for one, _ in widths} == {*range(8)} and {one for _, one in widths} == {*range(13)}
    torch.manual_seed(59)
    np.testing.assert_array_equal(augment.masked(frames), found)
    assert frames.all()


def test_other_voices_are_faster_and_higher() -> None:
    """A tone stands elsewhere, for as long as it lasts; one that changes nothing leaves all as it is."""
    torch.manual_seed(1)
    hertz, rate, mels = 1000, 16_000, 80

    def heard(by: float) -> np.ndarray:
        return log_mel(torch.from_numpy(tone(hertz * by, 1.0, rate)).float(), rate, mels).numpy()

    frames = heard(1)
    np.testing.assert_allclose(Voices(tempo=0, tract=0).spoken(frames, rate), frames, rtol=1e-5)
    lengths, heights = [], []
    for _ in range(40):
        found = Voices(tempo=0.2, tract=0.1).spoken(frames, rate)
        lengths.append(len(frames) / len(found))
        heights.append(int(found.mean(0).argmax()))
    assert 0.8 <= min(lengths) < 0.85 and 1.15 < max(lengths) <= 1.21
    peaks = [int(heard(by).mean(0).argmax()) for by in (1 / 1.1, 1 / 0.9)]
    assert abs(min(heights) - peaks[0]) <= 1 and abs(max(heights) - peaks[1]) <= 1


def test_only_training_hides() -> None:
    sound = {"source": Recording(np.random.default_rng(1).standard_normal(8000).astype(np.float32), 8000)}
    field, redraw = SoundField(Frames()), SoundSource().redraw()
    example = Example(field.source(sound), [1])
    assert redraw is not None and SoundSource(augment=None).redraw() is None
    hidden = redraw(example)
    assert (hidden.source != example.source).any() and hidden.target == [1]
    np.testing.assert_array_equal(field.source(sound), example.source)


@pytest.mark.parametrize("stack", [1, 2, 4])
def test_frames_are_embedded_whatever_stands_behind_them(stack: int) -> None:
    torch.manual_seed(1)
    embedding = FrameEmbedding(5, stack, 8).double()
    steps, lengths = torch.randn(3, 9, 5 * stack, dtype=torch.float64), torch.tensor([9, 4, 1])
    found = embedding(Padded(steps, lengths))
    assert found.values.shape == (3, 9, 8) and found.lengths is lengths
    for row, length in enumerate(lengths.tolist()):
        alone = embedding(Padded(steps[row : row + 1, :length], lengths[row : row + 1])).values[0]
        torch.testing.assert_close(found.values[row, :length], alone)
        garbage = embedding(
            Padded(torch.cat([steps[row : row + 1, :length], steps[:1] * 1e3], 1), lengths[row : row + 1])
        )
        torch.testing.assert_close(garbage.values[0, :length], alone)


def test_convolutions_see_three_frames() -> None:
    torch.manual_seed(1)
    embedding, frames = FrameEmbedding(3, 4, 6), torch.randn(8, 3)

    def convolved(layer: torch.nn.Conv1d, inputs: torch.Tensor, stride: int) -> torch.Tensor:
        padded = torch.cat([torch.zeros(1, inputs.shape[1]), inputs, torch.zeros(1, inputs.shape[1])])
        windows = [padded[start : start + 3] for start in range(0, len(inputs), stride)]
        sums = [torch.einsum("oik,ki->o", layer.weight, window) + layer.bias for window in windows]
        return torch.nn.functional.gelu(torch.stack(sums))

    wanted = convolved(embedding.second, convolved(embedding.first, frames, 2), 2)
    found = embedding(Padded(frames.reshape(1, 2, 12), torch.tensor([2])))
    torch.testing.assert_close(found.values[0], wanted)
