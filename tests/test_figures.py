"""Figures: that they draw what the archive may hold."""

from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")

from fercompanion import figures, pooling, tables  # noqa: E402
from fercompanion.runs import Result  # noqa: E402
from fercompanion.siblings import LEFT_OUT, MODEL_A, with_and_without  # noqa: E402


def trained(accuracies) -> Result:
    result = Result({"epochs": len(accuracies)}, Path("nowhere"))
    epochs = np.arange(1.0, len(accuracies) + 1)
    result.__dict__["history"] = {"epoch": epochs} | {
        f"{part}_accuracy": np.array(accuracies) for part in ("train", "valid")
    }
    return result


def test_curves_of_runs_that_lost_patience():
    """Seeds of different length: their range is drawn as far as any goes, their mean as far as all of them do."""
    results = trained([20.0, 40.0, 45.0]), trained([30.0, 50.0])
    nothing = np.zeros(0)
    arm = pooling.Tested(nothing, nothing, nothing, nothing, {}, results, (0, 1))
    ends, bands = (
        figures.curves({"dnnrl": arm}, "valid", "%").axes[0],
        figures.lengths([{"dnnrl": arm}]).axes[1],
    )
    (mean, mean_too), (bar, band) = (
        (ends.lines[0], bands.lines[0]),
        (ends.collections[0], bands.collections[0]),
    )
    assert bar.get_segments()[0].tolist() == [[pytest.approx(3.12), 45], [pytest.approx(3.12), 50]]
    assert {tuple(p) for p in band.get_paths()[0].vertices} == {(1, 20), (1, 30), (2, 40), (2, 50), (3, 45)}
    for line in (mean, mean_too):
        assert line.get_ydata().tolist() == pytest.approx([25, 45, np.nan], nan_ok=True)
    levels = figures.curves({"dnnrl": arm}, "valid", "%", {"dnnrl": 70.6, "dnn": 69.2}).axes[0]
    strokes = [line for line in levels.lines if line.get_transform() == levels.get_yaxis_transform()]
    assert [list(line.get_ydata()) for line in strokes] == [[70.6, 70.6]]  # of what is drawn alone
    assert strokes[0].get_color() == figures.arm_style("dnnrl")["color"]


def test_ingredients_stand_between_the_networks_that_differ_in_them():
    arms = {a: k for k, a in enumerate(MODEL_A)}
    index, labels, clean = np.arange(10), np.zeros(10, int), np.ones(10, bool)
    named = {a: (index >= k).astype(int)[None] for a, k in arms.items()}  # k of ten are right
    tested = {
        a: pooling.Tested(index, labels, clean, index, {}, (), (0,), {"tencrop": named[a]}) for a in arms
    }
    table = tables.ingredients(tested)
    axes = figures.ingredients(pooling.model_a_hits(tested), table).axes
    assert [ax.get_title().partition("\n")[0] for ax in axes] == list(LEFT_OUT)
    for ax, part in zip(axes, LEFT_OUT, strict=True):
        *lines, mean = (line.get_ydata().tolist() for line in ax.lines)
        assert lines == [[10.0 * arms[b], 10.0 * arms[a]] for a, b in with_and_without(part).values()]
        assert mean == pytest.approx(np.mean(lines, axis=0))
        assert ax.get_title().endswith(table.loc[part, "difference"])
        assert [t.get_text() for t in ax.get_xticklabels()] == ["without", "with"]
        beside = [" and ".join(there) or "neither" for there in with_and_without(part)]
        assert [t.get_text() for t in ax.get_legend().get_texts()] == [*beside, "mean"]
    plt.close("all")


def test_a_figure_is_whole_or_as_it_was(monkeypatch, tmp_path):
    """Two profiles draw at a time, and figures of demo faces are the same file for both."""
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    table = pd.DataFrame({"a": [1.5]})
    path = figures.save(plt.figure(figsize=(1, 1)), "paper", "one", "a note", table)
    assert path == tmp_path / "figures" / "paper" / "one"
    before = {p.name: p.read_bytes() for p in path.parent.iterdir()}
    assert set(before) == {"one.csv", "one.pdf", "one.png"} and before["one.csv"] == b",a\n0,1.5\n"
    for name, what in (("reduced", figures), ("to_csv", pd.DataFrame)):
        with monkeypatch.context() as m:
            m.setattr(what, name, lambda *a, **k: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                figures.save(plt.figure(figsize=(1, 1)), "paper", "one", "a note", table)
        assert {p.name: p.read_bytes() for p in path.parent.iterdir()} == before
    plt.close("all")
