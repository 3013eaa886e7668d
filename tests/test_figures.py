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
    """Seeds of different length: each is drawn whole, and their mean as far as all of them go."""
    results = trained([20.0, 40.0, 50.0]), trained([30.0, 50.0])
    nothing = np.zeros(0)
    arm = tables.Tested(nothing, nothing, nothing, nothing, {}, results, (0, 1))
    figure = figures.curves({"dnnrl": arm}, "valid", "PublicTest, %")
    *thin, mean = figure.axes[0].lines
    assert [line.get_ydata().tolist() for line in thin] == [[20, 40, 50], [30, 50]]
    assert mean.get_ydata().tolist() == pytest.approx([25, 45, np.nan], nan_ok=True)
