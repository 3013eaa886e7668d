"""Figures: that they draw what the archive may hold."""

from pathlib import Path

import matplotlib
import numpy as np
import pytest

matplotlib.use("Agg")

from fercompanion import figures, tables  # noqa: E402
from fercompanion.runs import Result  # noqa: E402


def trained(accuracies) -> Result:
    result = Result({"epochs": len(accuracies)}, Path("nowhere"))
    epochs = np.arange(1.0, len(accuracies) + 1)
    result.__dict__["history"] = {"epoch": epochs, "valid_accuracy": np.array(accuracies)}
    return result


def test_curves_of_runs_that_lost_patience():
    """Seeds of different length: their range is drawn as far as any goes, their mean as far as all of them do."""
    results = trained([20.0, 40.0, 50.0]), trained([30.0, 50.0])
    nothing = np.zeros(0)
    arm = tables.Tested(nothing, nothing, nothing, nothing, {}, results, (0, 1))
    figure = figures.curves({"dnnrl": arm}, "valid", "PublicTest, %")
    (mean,), (band,) = figure.axes[0].lines, figure.axes[0].collections
    assert {tuple(p) for p in band.get_paths()[0].vertices} == {(1, 20), (1, 30), (2, 40), (2, 50), (3, 50)}
    assert mean.get_ydata().tolist() == pytest.approx([25, 45, np.nan], nan_ok=True)
