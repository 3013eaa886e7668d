"""Files that are written whole or not at all, .npz among them, and files that only spare the next one the work."""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from lzma import LZMAError
from pathlib import Path
from secrets import token_hex
from typing import BinaryIO
from zipfile import ZIP_LZMA, BadZipFile, ZipFile

import numpy as np

DAMAGED = (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, RuntimeError)
DAMAGED += (BadZipFile, zlib.error, LZMAError)
"""What reading a damaged file may raise."""


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
    part = path.with_name(f"{path.stem}.part" if one_writer else f".{path.name}.{token_hex(8)}")
    try:
        with open(part, "wb") as file:
            yield file
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def save_arrays(path: str | os.PathLike, **arrays: np.ndarray) -> None:
    """An .npz, whole or not at all; by LZMA a seventh smaller than np.savez_compressed's, and np.load reads it as well."""
    with whole(path) as file, ZipFile(file, "w", ZIP_LZMA) as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                np.lib.format.write_array(member, np.asanyarray(array), allow_pickle=False)


@contextmanager
def kept_if_possible(path: str | os.PathLike) -> Iterator[None]:
    """Keep in `path` what was computed; where that cannot be, as in a folder to read alone, say so and go on."""
    try:
        yield
    except OSError as error:
        print(f"{path}: not kept ({error.strerror or error}); computed anew each time", file=sys.stderr)
