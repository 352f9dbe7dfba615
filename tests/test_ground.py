"""The ground floor: padded rows, nests of tensors, randomness, whole files."""

import os

import hypothesis
import pytest
import torch
from hypothesis import strategies
from jaxtyping import TypeCheckError
from torch.utils._python_dispatch import TorchDispatchMode

from regard import trees
from regard.attention import attend
from regard.files import whole_folder, write_whole
from regard.padded import Padded, pad
from regard.randomness import drop, generator_for, seed_for
from regard.trees import Growing


@pytest.fixture
def fresh_memory_is_nan():
    """What nobody has written reads as NaN instead of what happened to be there."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def test_pad():
    padded = pad([[5, 6, 7], [], [8]], padding=9)
    assert padded.values.tolist() == [[5, 6, 7], [9, 9, 9], [8, 9, 9]]
    assert padded.lengths.tolist() == [3, 0, 1]
    assert padded.mask.tolist() == [[True] * 3, [False] * 3, [True, False, False]]
    assert pad([]).values.shape == (0, 0)


def test_mask_of_features():
    assert Padded(torch.zeros(2, 3, 4), torch.tensor([1, 3])).mask.tolist() == [[True, False, False], [True] * 3]


def nest() -> dict:
    buffers = torch.arange(24.0).view(3, 4, 2), torch.arange(12.0).view(3, 4, 1)
    return {"layers": (Growing(buffers, torch.tensor([1, 3, 2])),), "first": [torch.arange(3)]}


def test_leaves_have_stable_paths():
    paths = ["layers/0/buffers/0", "layers/0/buffers/1", "layers/0/lengths", "first/0"]
    assert list(trees.leaves(nest())) == paths
    assert trees.leaves(torch.tensor([1]), "lengths") == {"lengths": torch.tensor([1])}


def test_map_keeps_the_containers():
    mapped = trees.map(lambda leaf: leaf + 1, nest())
    assert isinstance(mapped["layers"][0], Growing)
    assert isinstance(mapped["first"], list)
    assert {path: (leaf - 1).tolist() for path, leaf in trees.leaves(mapped).items()} == {
        path: leaf.tolist() for path, leaf in trees.leaves(nest()).items()
    }


def test_a_nest_holds_tensors_only():
    with pytest.raises(TypeError, match="not str"):
        trees.map(lambda leaf: leaf, {"name": "a word"})


def test_repeat():
    repeated = trees.repeat(nest(), 2)
    assert repeated["first"][0].tolist() == [0, 0, 1, 1, 2, 2]
    assert repeated["layers"][0].lengths.tolist() == [1, 1, 3, 3, 2, 2]
    assert trees.repeat(repeated, 1) is repeated


def test_select_of_all_rows_in_order_is_the_same_object():
    whole = nest()
    assert trees.select(whole, torch.arange(3)) is whole
    assert trees.select(whole, torch.arange(2)) is not whole


class Gathered(TorchDispatchMode):
    """Counts the elements that are gathered by index."""

    def __init__(self):
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, function, types, arguments=(), keywords=None):
        result = function(*arguments, **(keywords or {}))
        if "index_select" in str(function):
            self.elements += result.numel()
        return result


def test_select_copies_the_used_steps_and_keeps_the_room():
    growing = Growing((torch.arange(2 * 100).view(2, 100, 1),), torch.tensor([3, 2]))
    with Gathered() as gathered:
        selected = trees.select(growing, torch.tensor([1, 1, 0]))
    assert gathered.elements == 3 * 3 + 3  # three rows of three used steps, and the lengths
    assert selected.buffers[0].shape == (3, 100, 1)
    assert selected.buffers[0][:, :3, 0].tolist() == [[100, 101, 102]] * 2 + [[0, 1, 2]]
    assert selected.lengths.tolist() == [2, 2, 3]


def empty(rows: int, room: int = 0) -> Growing:
    return Growing((torch.zeros(rows, 2, room, 1),), torch.zeros(rows, dtype=torch.long))


def test_the_first_chunk_is_adopted():
    chunk = torch.rand(2, 2, 3, 1)
    grown = trees.grow(empty(2), (chunk,), torch.tensor([3, 1]))
    assert grown.buffers[0].data_ptr() == chunk.data_ptr()
    assert grown.lengths.tolist() == [3, 1]


def test_a_room_is_filled_in_place_and_doubled_when_full():
    growing, pointers, rooms = empty(1, room=2), set(), []
    for _ in range(9):
        growing = trees.grow(growing, (torch.ones(1, 2, 1, 1),), torch.tensor([1]))
        pointers.add(growing.buffers[0].data_ptr())
        rooms.append(growing.buffers[0].shape[-2])
    assert rooms == [2, 2, 4, 4, 8, 8, 8, 8, 16]
    assert growing.buffers[0][..., :9, :].eq(1).all()


counts = strategies.lists(strategies.integers(0, 3), min_size=3, max_size=3)
steps = strategies.lists(strategies.tuples(counts, strategies.permutations([0, 1, 2])), max_size=6)


@hypothesis.settings(
    deadline=None, derandomize=True, suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture]
)
@hypothesis.given(room=strategies.integers(0, 5), steps=steps)
def test_growing_is_a_list_of_lists(fresh_memory_is_nan, room, steps):
    growing, lists, number = empty(3, room), [[], [], []], 0
    for counts, order in steps:
        chunk = torch.arange(number, number + 12.0).view(3, 1, 4, 1).expand(-1, 2, -1, -1)
        number += 12
        growing = trees.grow(growing, (chunk.clone(),), torch.tensor(counts))
        lists = [
            row + steps[:count] for row, steps, count in zip(lists, chunk[:, 0, :, 0].tolist(), counts, strict=True)
        ]
        growing, lists = trees.select(growing, torch.tensor(order)), [lists[row] for row in order]
    assert growing.lengths.tolist() == [len(row) for row in lists]
    for row, expected in enumerate(lists):
        for head in range(2):
            assert growing.buffers[0][row, head, : len(expected), 0].tolist() == expected
    assert growing.buffers[0][:, :, : growing.used].isfinite().all()


def test_seeds_never_change():
    assert seed_for(1, "weights") == 6921093961725178177
    assert seed_for(1, "step", 700) == 1447995780205156584
    assert torch.randint(1000, (4,), generator=generator_for("a purpose", 3)).tolist() == [761, 774, 103, 420]
    assert seed_for(1, "order", 11) != seed_for(1, "order", 1, 1)


@pytest.mark.parametrize("share", [0.1, 0.3, 0.5, 0.9])
def test_dropout_keeps_its_share(share):
    torch.manual_seed(1)
    dropped = drop(torch.ones(3, 7, 9_523), share)  # 199,983: not a multiple of the four that one draw decides
    kept = dropped != 0
    assert dropped[kept].unique().tolist() == pytest.approx([1 / (1 - share)])
    assert float(kept.double().mean()) == pytest.approx(
        1 - share, abs=4 * (share * (1 - share) / dropped.numel()) ** 0.5
    )
    neighbours = (kept[..., 1:] & kept[..., :-1]).double().mean()
    assert float(neighbours) == pytest.approx((1 - share) ** 2, abs=0.005)


def test_no_dropout_is_no_work():
    inputs = torch.ones(3)
    assert drop(inputs, 0.0) is inputs


def test_write_whole(tmp_path):
    for content in (b"old", b"new"):
        write_whole(tmp_path / "file", content)
        assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", content)]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path, monkeypatch):
    write_whole(tmp_path / "file", b"old")

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(tmp_path / "file", b"new")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"old")]


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    with whole_folder(tmp_path / "folder") as aside:
        (aside / "old").write_text("old")
    with pytest.raises(KeyError), whole_folder(tmp_path / "folder") as aside:
        (aside / "new").write_text("half")
        raise KeyError
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "old"]
    with whole_folder(tmp_path / "folder") as aside:
        (aside / "new").write_text("whole")
    assert [path.name for path in tmp_path.rglob("*")] == ["folder", "new"]


def test_wrong_shapes_are_caught_while_testing():
    with pytest.raises(TypeCheckError, match="queries"):
        attend(torch.zeros(2, 3, 4), torch.zeros(2, 1, 5, 4), torch.zeros(2, 1, 5, 4))
    with pytest.raises(TypeCheckError, match="values"):
        attend(torch.zeros(2, 1, 3, 4), torch.zeros(2, 1, 5, 4), torch.zeros(2, 1, 6, 4))
