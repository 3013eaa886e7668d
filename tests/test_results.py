"""Archived runs: every stored number follows from the stored predictions, and README and TABLES.md show them."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fercompanion.plans import all_runs, profile
from fercompanion.runs import ROOT, find, read

RUNS = sorted((ROOT / "results").glob("*/**/run.json"))


@pytest.mark.parametrize(
    "path", RUNS or [None], ids=lambda p: str(p and p.parent.relative_to(ROOT / "results"))
)
def test_metrics_follow_from_predictions(path: Path | None):
    if path is None:
        pytest.skip("no archived runs")
    result, stored = read(path), read(path).info["metrics"]
    assert stored.pop("test_selected_maximum") == pytest.approx(
        result.history["test_accuracy"].max(), abs=1e-3
    )
    with np.load(path.with_name("predictions.npz")) as f:
        for name, value in stored.items():
            part, view = name.removesuffix("_clean").split("_", 1)
            of = f"{part}_logits_{view}"
            named = f[of].argmax(1) if of in f else f[of.replace("logits", "predicted")]
            hits = (named == f[f"{part}_labels"])[
                f[f"{part}_clean"] if name.endswith("_clean") else slice(None)
            ]
            assert value == pytest.approx(100 * hits.mean(), abs=1e-3), name
        told = {name.split("_", 2)[2] for name in f if "_logits_" in name or "_predicted_" in name}
    assert told == {name.removesuffix("_clean").split("_", 1)[1] for name in stored}
    info = result.info
    assert len(result.history["epoch"]) == info["epochs"]
    assert len(result.predictions["test_labels"]) == info["n"]["test"]
    if "valid_loss" in result.history:
        assert info["selected_epoch"] == 1 + int(np.argmin(result.history["valid_loss"]))
    elif info["n"]["valid"] and info["recipe"].get("select") != "last":
        assert info["selected_epoch"] == 1 + int(np.argmax(result.history["valid_accuracy"]))
    else:
        assert info["selected_epoch"] == info["epochs"]


def test_the_archive_of_paper_cpu_is_whole(monkeypatch):
    """What README promises: nothing is left to be trained."""
    monkeypatch.delenv("FERCOMPANION_RESULTS")
    missing = [str(run) for run in all_runs(profile("paper-cpu")) if find(run, "paper-cpu") is None]
    assert not missing


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="no clone")
def test_the_archive_holds_no_weights_and_is_small():
    tracked = subprocess.run(
        ["git", "ls-files", "results"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    assert tracked
    heavy = [f for f in tracked if f.endswith((".safetensors", ".pt", "embedding.npy"))]
    assert not heavy
    assert sum((ROOT / f).stat().st_size for f in tracked if (ROOT / f).is_file()) < 8e6


def test_the_tables_show_what_the_predictions_say():
    """VGG19's line, from its predictions by numpy alone."""
    folders = (ROOT / "results/paper/fer2013/ours-vgg19", ROOT / "results/paper-cpu/fer2013/short-vgg19")
    found = next(paths for f in folders if (paths := list(f.glob("official/seed*/predictions.npz"))))
    numbers = np.zeros(3)
    for path in found:
        with np.load(path) as f:
            centre = f["test_predicted_centre"] == f["test_labels"]
            logits = "test_logits_tencrop"  # kept of the first seed
            named = f[logits].argmax(1) if logits in f else f["test_predicted_tencrop"]
            ten = named == f["test_labels"]
            numbers += np.array([centre.mean(), ten.mean(), ten[f["test_clean"]].mean()]) / len(found)
    line, *_ = [  # the full-width one, where there is one, is the first
        line
        for line in (ROOT / "results/TABLES.md").read_text().splitlines()
        if line.startswith("| VGG19 | 69.2")
    ]
    shown = [cell.split(" [")[0].strip() for cell in line.split("|")[3:6]]
    assert shown == [f"{100 * x:.2f}" for x in numbers]


def test_every_figure_has_its_place_in_readmes_table(monkeypatch, tmp_path):
    """Else the pages of figures would leave it out."""
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    import gallery

    plan = profile("paper-cpu")
    shown = gallery.page(plan)
    assert shown.count("![") > 15
    assert all(
        path.name in shown
        for path in gallery.committed(ROOT / "figures/paper-cpu")
        if path.suffix in (".png", ".csv")
    )
    monkeypatch.setattr(gallery, "committed", lambda folder: [folder / "fig6-lambda.png", folder / "new.png"])
    with pytest.raises(ValueError, match="no line for new"):
        gallery.page(plan)


def test_readme_and_tables_are_up_to_date(monkeypatch):
    monkeypatch.delenv("FERCOMPANION_RESULTS")
    command = [sys.executable, ROOT / "tools/update_readme.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
