"""Files that are written whole or not at all."""

from __future__ import annotations

import os
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
