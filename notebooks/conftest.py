"""What nbval needs to run notebooks side by side."""

import nbval.kernel
from kernels import OnFiles


class Kernel(OnFiles, nbval.kernel.KernelManager):
    """nbval's own, on files."""


nbval.kernel.KernelManager = Kernel
