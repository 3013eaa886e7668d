"""Figures: that they draw what the archive may hold."""

from dataclasses import replace
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

matplotlib.use("Agg")

from fercompanion import figures, pooling, tables  # noqa: E402
from fercompanion.claims import CLAIMS  # noqa: E402
from fercompanion.evaluate import Estimate  # noqa: E402
from fercompanion.recipes import ARMS  # noqa: E402
from fercompanion.runs import Result  # noqa: E402
from fercompanion.siblings import LEFT_OUT, MODEL_A, with_and_without  # noqa: E402
from fercompanion.verdicts import NONE, NOT_RUN, OPEN, Effect, Judgement, unmeasured  # noqa: E402


def trained(accuracies, seed=0) -> Result:
    result = Result({"epochs": len(accuracies), "seed": seed}, Path("nowhere"))
    epochs = np.arange(1.0, len(accuracies) + 1)
    result.__dict__["history"] = {"epoch": epochs} | {
        f"{part}_accuracy": np.array(accuracies) for part in ("train", "valid")
    }
    return result


def test_curves_of_runs_that_lost_patience():
    """Seeds of different length: their range is drawn as far as any goes, their mean as far as all of them do."""
    results = trained([20.0, 40.0, 45.0]), trained([30.0, 50.0], seed=1)
    nothing = np.zeros(0)
    arm = pooling.Tested(nothing, nothing, nothing, nothing, {}, results, (0, 1))
    better = replace(arm, results=(trained([21.0, 42.0, 48.0]), trained([31.0, 52.0], seed=1)))
    ends, bands = (
        figures.curves({"dnnrl": arm}, "valid", "%").axes[0],
        figures.lengths([{"dnnrl": arm, "dnn": better}], ("dnnrl", "dnn")).axes[1],
    )
    gap = figures.lengths([{"dnnrl": arm, "dnn": better}], ("dnnrl", "dnn")).axes[2].lines[0]
    assert gap.get_ydata().tolist() == pytest.approx([1, 2, np.nan], nan_ok=True)
    one = replace(better, results=better.results[1:], seeds=(1,))  # the second seed alone is compared
    gap = figures.lengths([{"dnnrl": arm, "dnn": one}], ("dnnrl", "dnn")).axes[2].lines[0]
    assert gap.get_ydata()[:2].tolist() == pytest.approx([1, 2])
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


def test_arms_of_ones_own_differ_from_each_other_and_from_lkrnets(monkeypatch):
    monkeypatch.setattr(figures, "OTHERS", [])
    styles = [figures.arm_style(arm) for arm in (*ARMS, "mine", "yours")]
    assert all(styles.count(s) == 1 for s in styles) and figures.arm_style("mine") == styles[-2]


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
        assert ax.get_title().endswith(f"{table.loc[part, 'difference']} points")
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


def test_retrained_networks_leave_what_is_committed_alone(monkeypatch, tmp_path, demo):
    """Heat maps on demo faces are drawn from networks too."""
    monkeypatch.setattr(figures, "ROOT", tmp_path)
    licensed = replace(demo, name="fer2013")
    folders = {}
    for retrain in ("", "1"):
        monkeypatch.setenv("RETRAIN", retrain)
        for shows in ((), (demo,), (licensed,)):
            path = figures.save(None, "paper", "one", shows=shows)
            folders[bool(retrain), len(shows) and shows[0].name] = path.parent.relative_to(
                tmp_path
            ).as_posix()
    assert folders == {
        (False, 0): "figures/paper",
        (False, "demo"): "figures/demo",
        (False, "fer2013"): "build/figures/paper",
        (True, 0): "figures/paper-retrain",
        (True, "demo"): "figures/demo-retrain",
        (True, "fer2013"): "build/figures/paper-retrain",
    }


def test_every_row_of_the_claims_says_what_it_rests_on():
    claim = {c.id: c for c in CLAIMS}
    ours = Estimate(0.5, -0.5, 1.5)
    told = {
        "L1": {"ours": "70.98 by our recipe", "published": "69.15 implied"},
        "L2": {"effects": (Effect("inside", 0.25, ours, NONE, 2),)},
        "L3": {"effects": (Effect("outside", 1.62, ours, NONE, 2),)},
        "D4": {"test": "gradients by autograd", "ours": "0.000 at -1", "published": "Fig. 3"},
        "D6": {"effects": (unmeasured(0.36),)},
        "M4": {"verdict": NOT_RUN, "effects": (unmeasured(NONE),)},
        "M6": {"ours": "PublicTest: happy 81.56 [78.89, 83.97]", "published": "happy 91, fear 56"},
        "K1": {"ours": "99.89 [99.44, 100.00]", "published": "99.44"},
    }
    judgements = [
        Judgement(**{"verdict": OPEN, "why": "", "claim": claim[k]} | fields) for k, fields in told.items()
    ]
    ax = figures.claims(judgements).axes[1]
    words = {list(told)[int(t.get_position()[1])]: t.get_text() for t in ax.texts if t.get_fontsize() == 7}
    assert words == {
        "L1": "ours 71.0, implied 69.15",
        "D4": "needs no run: gradients by autograd",
        "M4": "not run",
        "M6": "PublicTest: happy ours 81.6, printed 91; 1 more",
        "K1": "ours 99.9, printed 99.44",
    }
    marks = {line.get_xdata()[0]: line.get_marker() for line in ax.lines if line.get_marker() in "|x"}
    assert marks == {0.25: "|", 1.62: "x", 0.36: "|"}
    plt.close("all")


def test_marks_of_a_few_points_have_one_size():
    """Among thousands those of a rare class are larger, or they would disappear."""
    labels = np.arange(200) % 2 * (np.arange(200) < 10)
    for times, sizes in ((1, {14}), (15, {3, 14})):
        many = np.repeat(labels, times)
        figure = figures.embeddings({"a": np.zeros((len(many), 2))}, many, ("one", "two"), {"a": ""})
        assert {c.get_sizes()[0] for c in figure.axes[0].collections} == sizes
    plt.close("all")
