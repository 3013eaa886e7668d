"""nbval compares a cell's standard output where a cell asks for it, but never its warnings; its kernels are on files."""

import nbval.kernel
from kernels import OnFiles


class Kernel(OnFiles, nbval.kernel.KernelManager):
    """nbval's own, on files."""


nbval.kernel.KernelManager = Kernel


def pytest_collectstart(collector):
    """Called by pytest for every notebook."""
    if getattr(collector, "skip_compare", None) is not None:
        collector.skip_compare += ("stderr",)
