"""Kernels that listen on files instead of ports.

Jupyter chooses ports before the kernel starts, and another one may take them in between: of notebooks that run side
by side one in some hundred failed to start.
"""

import tempfile

import zmq


class OnFiles:
    """Put this before a kernel manager's class; the files lie in a folder of their own, which goes with it."""

    def start_kernel(self, **options):
        """Start it, on ports where files cannot be sockets (Windows) or their names would be too long for that."""
        self.folder = tempfile.TemporaryDirectory(prefix="kernel-")
        file = f"{self.folder.name}/kernel.json"
        if len(file) < zmq.IPC_PATH_MAX_LEN:  # the sockets' names have one character more
            self.transport, self.connection_file = "ipc", file
        return super().start_kernel(**options)
