"""Files that are written whole or not at all, and files that only spare the next one the work."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


@contextmanager
def whole(path: str | os.PathLike, one_writer: bool = False) -> Iterator[BinaryIO]:
    """A binary file to write to, which takes its name when all is in it; the folder is made if need be.

    Parameters
    ----------
    one_writer : no other process writes this file at the same time; then being killed many times leaves one
        unfinished file behind (".part"), not one each time.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.stem}.part" if one_writer else f".{path.name}.{os.getpid()}")
    try:
        with open(part, "wb") as file:
            yield file
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    os.replace(part, path)


@contextmanager
def kept_if_possible(path: str | os.PathLike) -> Iterator[None]:
    """Keep in `path` what was computed; where that cannot be, as in a folder to read alone, say so and go on."""
    try:
        yield
    except OSError as error:
        print(f"{path}: not kept ({error.strerror or error}); computed anew each time", file=sys.stderr)
