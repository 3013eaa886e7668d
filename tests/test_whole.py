"""Files that are written whole or not at all, and those that are kept where that is possible."""

import numpy as np
import pytest

from fercompanion import embed, runs
from fercompanion.runs import Result
from fercompanion.whole import whole


@pytest.mark.parametrize("one_writer", [False, True])
def test_a_write_that_fails_leaves_what_was_there(tmp_path, one_writer):
    path = tmp_path / "new" / "a.bin"
    with whole(path, one_writer) as f:
        f.write(b"first")
    with pytest.raises(RuntimeError), whole(path, one_writer) as f:
        f.write(b"half of the sec")
        raise RuntimeError
    assert path.read_bytes() == b"first" and list(path.parent.iterdir()) == [path]


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
