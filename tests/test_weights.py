"""Files of weights: what does not fit the model is refused before anything large is read."""

import functools
import json
import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from regard.models.heads import TokenHead
from regard.models.model import Model, ModelSettings, build_model
from regard.models.weights import read_weights, write_weights

Header = dict[str, Any]
Tensors = dict[str, torch.Tensor]
NAME, OTHER = "embedding.weight", "encoder.norm.weight"
SIDE = {"layers": 1, "heads": 2, "feedforward": 8}


def build(seed: int) -> Model:
    torch.manual_seed(seed)
    settings = ModelSettings.model_validate({"width": 16, "encoder": SIDE, "decoder": SIDE})
    return build_model(settings, 30, lambda output, widths: TokenHead(output))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_weights(tmp_path / "model.safetensors", build(1))
    return tmp_path / "model.safetensors"


def refused(file: Path) -> str:
    """Why the weights are refused; little was read until then."""
    model = build(2)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError) as caught:
            read_weights(file, model)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()
    assert len(str(caught.value)) < 300
    return str(caught.value)


def same(one: Model, other: Model) -> bool:
    weights = zip(one.named_parameters(), other.named_parameters(), strict=True)
    return all(name == its and torch.equal(weight, others) for (name, weight), (its, others) in weights)


def test_weights_are_what_was_written(file: Path) -> None:
    model = build(2)
    assert not same(model, build(1))
    read_weights(file, model)
    assert same(model, build(1)) and model.head.weight is model.embedding.weight
    assert "head.weight" not in load_file(file)


def headed(path: Path, change: Callable[[Header], Any]) -> None:
    """Change the header of a safetensors file and leave what follows it."""
    content = path.read_bytes()
    end = 8 + int.from_bytes(content[:8], "little")
    text = json.dumps(change(json.loads(content[8:end]))).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + content[end:])


def entry(name: str, **changes: Any) -> Callable[[Header], Header]:
    """Some of what the header says of one tensor changed; None takes it away."""

    def change(header: Header) -> Header:
        described = {key: value for key, value in (header[name] | changes).items() if value is not None}
        return header | {name: described}

    return change


def overlapping(header: Header) -> Header:
    return entry(OTHER, data_offsets=header["decoder.norm.weight"]["data_offsets"])(header)


def renamed(header: Header) -> Header:
    return {"x" * 2000 if name == OTHER else name: described for name, described in header.items()}


def many(header: Header) -> Header:
    return {f"t{number}": {"dtype": "F32", "shape": [0], "data_offsets": [0, 0]} for number in range(100_000)}


def nest(header: Header) -> Any:
    return functools.reduce(lambda inner, _: [inner], range(900), [])


HEADERS: dict[str, tuple[Callable[[Header], Any], str]] = {
    "100 k tensors": (many, "a header of 6,588,890 bytes, when 35 weights need less than 18,432"),
    "an overlap": (overlapping, "header"),
    "a negative place": (entry(NAME, data_offsets=[-4, 60]), "`-4`"),
    "a place backwards": (entry(NAME, data_offsets=[64, 0]), "header"),
    "a place outside": (entry(NAME, data_offsets=[1 << 60, 1 << 61]), "header"),
    "no place": (entry(NAME, data_offsets=None), "`data_offsets`"),
    "a negative size": (entry(NAME, shape=[-30, -16]), "size mismatch for embedding.weight: ('F32', [-30, -16]) in"),
    "a huge size": (entry(NAME, shape=[1 << 40, 1 << 20]), "size mismatch for embedding.weight: "),
    "a size that is no integer": (entry(OTHER, shape=[16.0]), "floating point `16.0`"),
    "another type": (entry(OTHER, dtype="F16"), "('F16', [16]) in the file, ('F32', [16]) in"),
    "no type": (entry(OTHER, dtype=None), "its header is not that of a safetensors file"),
    "a list": (lambda header: [header], "its header is not that of a safetensors file"),
    "a nest": (nest, "its header is not that of a safetensors file"),
    "a long name": (renamed, "1 of its 35 weights are missing, such as 'encoder.norm.weight', 1 are of another model"),
}


@pytest.mark.parametrize(("change", "told"), HEADERS.values(), ids=HEADERS)
def test_a_header_that_does_not_fit_is_refused(change: Callable[[Header], Any], told: str, file: Path) -> None:
    headed(file, change)
    assert told in refused(file)


def filled(name: str, value: float) -> Callable[[Tensors], Tensors]:
    """One number of a tensor, the last, is another."""
    return lambda found: (
        found | {name: found[name].flatten().index_fill(0, torch.tensor(-1), value).view_as(found[name])}
    )


TENSORS: dict[str, tuple[Callable[[Tensors], Tensors], str]] = {
    "half precision": (lambda found: {name: one.half() for name, one in found.items()}, "('F16', ["),
    "one missing": (lambda found: {name: found[name] for name in found if name != NAME}, "such as 'embedding.weight'"),
    "one more": (lambda found: found | {"more": torch.ones(3)}, "0 of its 35 weights are missing, 1 are of another"),
    "transposed": (lambda found: found | {NAME: found[NAME].T.contiguous()}, "size mismatch for embedding.weight"),
    "of another model": (lambda found: {"x": torch.ones(1)}, "35 of its 35 weights are missing, such as 'decoder.l"),
    "infinite": (filled(NAME, torch.inf), "numbers that are not finite in embedding.weight"),
    "no number": (filled(OTHER, torch.nan), "numbers that are not finite in encoder.norm.weight"),
}


@pytest.mark.parametrize(("change", "told"), TENSORS.values(), ids=TENSORS)
def test_weights_that_do_not_fit_are_refused(change: Callable[[Tensors], Tensors], told: str, file: Path) -> None:
    save_file(change(load_file(file)), file)
    assert told in refused(file)


@pytest.mark.parametrize("size", [0, 7, 8, 9, 1000, -1])
def test_weights_that_were_cut_are_refused(size: int, file: Path) -> None:
    file.write_bytes(file.read_bytes()[:size])
    assert "header" in refused(file).lower()


def test_weights_that_grew_are_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")
    assert "header" in refused(file).lower()


def test_a_header_of_100_mb_is_not_read(file: Path) -> None:
    file.write_bytes((10**8).to_bytes(8, "little") + b"{")
    os.truncate(file, 10**8 + 8)
    assert refused(file) == "a header of 100,000,000 bytes, when 35 weights need less than 18,432"


def test_a_note_beside_the_weights_does_no_harm(file: Path) -> None:
    headed(file, lambda header: header | {"__metadata__": {"format": "pt"}})
    model = build(2)
    read_weights(file, model)
    assert same(model, build(1))
