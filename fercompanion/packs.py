"""Packs: finished runs as tar files small enough to carry from one machine to another, without weights.

The embeddings that figures show are in them; what is drawn of these is made where the packs are unpacked.  Heat maps
need weights: run notebook 05 where the weights are, before packing, and they travel too.
"""

from __future__ import annotations

import os
import shutil
import sys
import tarfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from .plans import drawn
from .runs import DRAWN, PARTS, Run, find, results_folder

LIMIT = 16_000_000
"""Largest size of a pack in bytes."""
KEPT = (*PARTS[:2], "run.json")


def pack(runs: Iterable[Run], profile: str, folder: str | os.PathLike, limit: int = LIMIT) -> list[Path]:
    """Add finished runs to ``<profile>-001.tar``, ``-002.tar``, ... in `folder`; packed ones are passed over.

    A run that lacks one of its files is named and left out; one that is trained anew stays packed as it was.  ``tar xf``
    in the repository's root puts them where `runs.find` looks.  A pack is replaced in one step, so that it is whole
    whenever the work is cut off.

    Parameters
    ----------
    runs : of these the finished ones.
    limit : bytes; a single run that is larger gets a pack of its own.

    Returns
    -------
    list of Path
        All packs of the profile.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    name = results_folder(profile).name  # with RETRAIN=1 another than the profile's
    packs = sorted(folder.glob(f"{name}-[0-9][0-9][0-9].tar"))
    packed = set()
    for path in packs:
        with tarfile.open(path) as tar:
            packed |= {str(PurePosixPath(member).parent) for member in tar.getnames()}
    for run in runs:
        where = f"results/{name}/{run.where.as_posix()}"
        if where in packed or find(run, profile) is None:
            continue
        files = [results_folder(profile) / run.where / kept for kept in KEPT]
        if lacking := [f.name for f in files if not f.is_file()]:
            print(f"{run}: not packed, it lacks {', '.join(lacking)}", file=sys.stderr)
            continue
        more = (*DRAWN, *PARTS[2:] * drawn(run))
        files += [f for name in more if (f := files[0].with_name(name)).is_file()]
        # Two headers and the filling of the last block a file, and of the last record of all.
        size = sum(f.stat().st_size + 2048 for f in files) + tarfile.RECORDSIZE
        if not packs or packs[-1].stat().st_size + size > limit:
            number = int(packs[-1].stem[-3:]) + 1 if packs else 1
            packs.append(folder / f"{name}-{number:03d}.tar")
        part = packs[-1].with_suffix(".part")
        part.unlink(missing_ok=True)  # of a sweep that was cut off
        if packs[-1].exists():
            shutil.copyfile(packs[-1], part)
        with tarfile.open(part, "a") as tar:
            for f in files:
                tar.add(f, f"{where}/{f.name}")
        os.replace(part, packs[-1])
    return packs
