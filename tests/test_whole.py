"""Files that are written whole or not at all, and those that are kept where that is possible."""

import numpy as np
import pytest

from fercompanion import embed, runs
from fercompanion.runs import Result
from fercompanion.whole import DAMAGED, save_arrays, whole


@pytest.mark.parametrize("one_writer", [False, True])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, one_writer):
    path = tmp_path / "new" / "a.bin"
    with whole(path, one_writer) as f:
        f.write(b"first")
    with pytest.raises(RuntimeError), whole(path, one_writer) as f:
        f.write(b"half of the sec")
        raise RuntimeError
    assert path.read_bytes() == b"first" and list(path.parent.iterdir()) == [path]


def test_a_name_that_cannot_be_taken_leaves_nothing_behind(tmp_path):
    (tmp_path / "a.bin").mkdir()
    with pytest.raises(OSError), whole(tmp_path / "a.bin") as f:
        f.write(b"all")
    assert [p.name for p in tmp_path.iterdir()] == ["a.bin"]


def test_two_writers_at_a_time_do_not_mix(tmp_path):
    """Even with one process id, as in two containers on one disk."""
    path = tmp_path / "a.bin"
    with whole(path) as first, whole(path) as second:
        first.write(b"A" * 9)
        second.write(b"B" * 5)
    assert path.read_bytes() == b"A" * 9 and list(tmp_path.iterdir()) == [path]


ARRAYS = {
    "rows": np.arange(3589, dtype=np.int32),
    "logits": np.eye(7, dtype=np.float16),
    "none": np.zeros((0, 2)),
}


def test_arrays_are_read_by_numpy_and_smaller_than_its_own(tmp_path):
    for number in range(2):
        save_arrays(tmp_path / f"{number}.npz", **ARRAYS)
    assert (tmp_path / "0.npz").read_bytes() == (tmp_path / "1.npz").read_bytes()
    with np.load(tmp_path / "0.npz", allow_pickle=False) as f:
        assert list(f) == list(ARRAYS)
        assert all(np.array_equal(f[k], v) and f[k].dtype == v.dtype for k, v in ARRAYS.items())
    np.savez_compressed(tmp_path / "numpy.npz", **ARRAYS)
    assert (tmp_path / "0.npz").stat().st_size < (tmp_path / "numpy.npz").stat().st_size / 2


def test_objects_are_not_pickled(tmp_path):
    with pytest.raises(ValueError):
        save_arrays(tmp_path / "a.npz", a=np.array([object()]))
    assert not list(tmp_path.iterdir())


def test_of_damaged_bytes_no_other_error_comes(tmp_path):
    path = tmp_path / "a.npz"
    save_arrays(path, **ARRAYS)
    good = path.read_bytes()
    told = 0
    for place in range(len(good)):
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        try:
            with np.load(path, allow_pickle=False) as f:
                dict(f)
        except DAMAGED:
            told += 1
    assert told > len(good) / 2


def test_what_cannot_be_kept_is_drawn_all_the_same(tmp_path, monkeypatch, capsys):
    """As from an archive on a disk that can only be read."""
    result = Result({}, tmp_path)
    result.__dict__["embedding"] = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float16)
    result.__dict__["predictions"] = {"test_labels": np.arange(20) % 4}

    def refuse(*_, **__):
        raise OSError(30, "Read-only file system")

    with monkeypatch.context() as broken:
        broken.setattr(runs, "save_arrays", refuse)
        drawn = embed.triplet_distances(result)
    assert drawn.shape == (20,) and not list(tmp_path.iterdir())
    assert capsys.readouterr().err.startswith(f"{tmp_path}/triplets.npz: not kept (Read-only file system)")
    assert np.array_equal(embed.triplet_distances(result), drawn)
    assert [p.name for p in tmp_path.iterdir()] == ["triplets.npz"]
