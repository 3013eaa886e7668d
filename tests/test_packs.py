"""Packs of finished runs, and the estimate of a sweep's time."""

import json
import shutil
import tarfile
from dataclasses import asdict, replace

import numpy as np
import pytest

from fercompanion import estimate
from fercompanion.packs import pack
from fercompanion.plans import PROFILES, all_runs, drawn, wild_runs
from fercompanion.predict import this_machine
from fercompanion.runs import INFO, Run, find, results_folder

RUNS = wild_runs(PROFILES["demo"])[:4]

SAFE = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
"""Python 3.11 has this since 3.11.4."""


def finish(run: Run, size: int) -> None:
    """A run's files, with predictions of about `size` random bytes, and weights."""
    folder = results_folder("demo") / run.where
    folder.mkdir(parents=True)
    np.savez(folder / "predictions.npz", x=np.random.default_rng(0).bytes(size))
    for name in ("history.csv", "weights.safetensors", "checkpoint.pt"):
        (folder / name).write_text("x")
    (folder / "run.json").write_text(json.dumps(dict.fromkeys(INFO, {}) | {"recipe": asdict(run.recipe)}))


def test_packs_stay_below_the_limit_and_unpack_where_runs_are_found(tmp_path, monkeypatch):
    for run in RUNS[:3]:
        finish(run, 40_000)
    packs = pack(RUNS, "demo", tmp_path / "home", limit=110_000)
    assert [p.name for p in packs] == ["demo-001.tar", "demo-002.tar"]
    assert all(p.stat().st_size <= 110_000 for p in packs)
    for path in packs:
        with tarfile.open(path) as tar:
            assert not any(name.endswith((".safetensors", ".pt")) for name in tar.getnames())
            tar.extractall(tmp_path / "clone", **SAFE)
    monkeypatch.setenv("FERCOMPANION_RESULTS", str(tmp_path / "clone/results"))
    assert [find(run, "demo") is not None for run in RUNS] == [True, True, True, False]


def test_a_run_is_packed_once_and_a_later_one_is_added(tmp_path):
    finish(RUNS[0], 1000)
    first = pack(RUNS, "demo", tmp_path)[0].read_bytes()
    assert pack(RUNS, "demo", tmp_path)[0].read_bytes() == first
    finish(RUNS[1], 1000)
    (path,) = pack([RUNS[1]], "demo", tmp_path)
    with tarfile.open(path) as tar:
        assert len(tar.getnames()) == 6
    assert not list(tmp_path.glob("*.part"))


def test_embeddings_of_longer_runs_stay_at_home():
    runs = {r.recipe.name: r for r in all_runs(PROFILES["paper"]) if r.protocol == "official" and not r.seed}
    shown = {name for name, r in runs.items() if drawn(r)}
    lkrnet = {"ours-baseline1", "ours-lkrnet-lambda0.1", "ours-lkrnet", "ours-lkrnet-lambda0.4"}
    assert shown == lkrnet | {n for n, r in runs.items() if r.recipe.paper == "dnnrl" and n != "long-dnn"}


def test_a_run_without_its_files_does_not_keep_the_others_back(tmp_path, capsys):
    for run in RUNS[:2]:
        finish(run, 1000)
    (results_folder("demo") / RUNS[0].where / "history.csv").unlink()
    (path,) = pack(RUNS, "demo", tmp_path)
    with tarfile.open(path) as tar:
        assert len(tar.getnames()) == 3
    assert f"{RUNS[0]}: not packed, it lacks history.csv" in capsys.readouterr().err


def test_embeddings_travel_where_a_figure_shows_them(tmp_path):
    """Those of the lambdas, not VGG19's."""
    for run in RUNS:
        finish(run, 1000)
        np.save(results_folder("demo") / run.where / "embedding.npy", np.zeros((3, 4), np.float16))
    (path,) = pack(RUNS, "demo", tmp_path)
    with tarfile.open(path) as tar:
        own = {name.split("/")[3] for name in tar.getnames() if name.endswith("embedding.npy")}
    assert own == {"demo-baseline1", "demo-lkrnet"}


def test_the_limit_is_kept_to_the_byte(tmp_path):
    for run in RUNS[:2]:
        finish(run, 40_000)
    together = pack(RUNS, "demo", tmp_path / "a")[0].stat().st_size
    for limit in range(together - 8192, together + 1, 1024):
        packs = pack(RUNS, "demo", tmp_path / str(limit), limit)
        assert all(p.stat().st_size <= limit for p in packs)


def test_what_a_sweep_left_half_written_does_no_harm(tmp_path):
    finish(RUNS[0], 1000)
    (tmp_path / "demo-001.part").write_bytes(b"x" * 700)
    (path,) = pack(RUNS, "demo", tmp_path)
    with tarfile.open(path) as tar:
        assert len(tar.getnames()) == 3


def test_numbers_go_on_after_a_pack_was_carried_away(tmp_path):
    for run in RUNS[:2]:
        finish(run, 40_000)
    first, second = pack(RUNS, "demo", tmp_path, limit=60_000)
    first.unlink()
    finish(RUNS[2], 40_000)
    packs = pack(RUNS[2:], "demo", tmp_path, limit=60_000)
    assert [p.name for p in packs] == ["demo-002.tar", "demo-003.tar"] and packs[0] == second


def test_retrained_runs_keep_their_own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("RETRAIN", "1")
    finish(RUNS[0], 1000)
    (path,) = pack(RUNS, "demo", tmp_path)
    with tarfile.open(path) as tar:
        assert path.name == "demo-retrain-001.tar"
        assert all(name.startswith("results/demo-retrain/") for name in tar.getnames())


def test_a_failed_write_leaves_the_pack_whole(tmp_path, monkeypatch):
    finish(RUNS[0], 1000)
    (path,) = pack(RUNS[:1], "demo", tmp_path)
    before = path.read_bytes()
    finish(RUNS[1], 1000)

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(shutil, "copyfile", full)
    with pytest.raises(OSError, match="disk full"):
        pack(RUNS[:2], "demo", tmp_path)
    assert path.read_bytes() == before


def test_the_estimate_grows_with_epochs_and_images():
    machine = this_machine("cpu")
    tiny = replace(RUNS[0].recipe, width=0.03125, batch_size=8, epochs=10)
    one = estimate.seconds(Run(tiny, "demo"), machine)
    assert 0 < one < 3600
    assert estimate.seconds(Run(replace(tiny, batch_size=7), "demo"), machine) != one  # timed, not looked up
    longer = Run(replace(tiny, epochs=1000), "demo")
    assert estimate.seconds(longer, machine) == pytest.approx(100 * one, rel=0.3)
    assert estimate.seconds(Run(tiny, "fer2013"), machine) == pytest.approx(18.6 * one, rel=0.1)


@pytest.mark.parametrize("name", PROFILES)
def test_the_sizes_of_all_data_sets_are_known(name):
    assert {run.dataset for run in all_runs(PROFILES[name])} <= set(estimate.SIZES)


def test_durations_are_spoken():
    assert [estimate.spoken(s) for s in (40, 720, 12600)] == ["40 s", "12 min", "3.5 h"]
