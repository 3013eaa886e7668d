"""Kernels under nbval listen on files, as a port may be taken by another kernel before its own has started."""

import os
import tempfile

import nbval.kernel


class Kernel(nbval.kernel.KernelManager):
    """A kernel in a folder of its own, which is removed with it."""

    def start_kernel(self, **options):
        """Start it, on ports where there are no sockets in files (Windows)."""
        if os.name == "posix":
            self.folder = tempfile.TemporaryDirectory(prefix="kernel-")
            self.transport, self.connection_file = "ipc", f"{self.folder.name}/kernel.json"
        super().start_kernel(**options)


nbval.kernel.KernelManager = Kernel
