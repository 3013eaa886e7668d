"""Sweeps: the runs of a plan, each trained in its folder unless it is archived, one at a time or side by side."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import platform
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager, suppress
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
import torchvision
from filelock import FileLock, Timeout

from . import evaluate, train
from .data import DataError, Faces, first_line, load_faces
from .landmarks import find_landmarks
from .models import MODELS
from .plans import keeps_logits
from .progress import tqdm
from .protocols import Parts, parts
from .runs import (
    AROUND,
    DRAWN,
    NUMBERS,
    Result,
    Run,
    anew,
    find,
    find_all,
    is_set,
    read,
    results_folder,
)
from .superres import enlarge
from .whole import save_arrays, whole

SELECTIONS = {
    "accuracy": "best PublicTest epoch (centre crop)",
    "loss": "lowest PublicTest loss",
    "last": "last epoch",
}
"""Recipe.select, as run.json says it."""
PACKAGED = dict(MODELS)
"""Networks that a new process knows too; others were put into `models.MODELS` at run time."""
MOST_WORKERS = 4
"""Runs trained side by side at most: each holds a network and a data set in memory."""


def complete(
    runs: list[Run],
    profile: str,
    root: str | None = None,
    finished: Callable[[Run], object] | None = None,
    workers: int | None = None,
) -> dict[Run, Result]:
    """The runs of a plan: those archived are read, the others trained, if their data set is on this machine.

    Data sets and landmarks are loaded only if something is to be trained.  With FERCOMPANION_NO_TRAINING=1 nothing is;
    with FERCOMPANION_DEBUG=1 a run that fails ends all, with its traceback.  What is left out is said in one line, and
    missing from the returned dict.

    Parameters
    ----------
    runs : as `plans` lists them, or of one's own.
    profile : name of the folder below results/ that holds them.
    root : folder of the licensed data sets; $FERCOMPANION_DATA if omitted.
    finished : called with each run as soon as it is trained.
    workers : so many train at a time, or as many as `side_by_side` says.

    Returns
    -------
    dict
        Run -> `Result`, in the order of `runs`.

    Raises
    ------
    DataError
        An archived run is damaged, or was made by another recipe or on another copy of the data set.
    """
    archived = find_all(runs, profile)
    missing = [run for run in runs if run not in archived]
    if missing and is_set("FERCOMPANION_NO_TRAINING"):
        print(
            f"{len(missing)} of {len(runs)} runs are not archived, and FERCOMPANION_NO_TRAINING forbids training"
        )
        missing = []
    missing = possible(missing, profile, root)
    if alone := len(missing) > 1 and _known_here_alone(missing):
        print(f"{alone}: runs are trained one at a time", file=sys.stderr, flush=True)
        workers = 1
    # What one machine must first train a network for, to enlarge faces, waits until the rest is done.
    for late in (False, True):
        some = [run for run in missing if run.recipe.faces.startswith("srgan") == late]
        _train(some, profile, root, finished or (lambda run: None), workers)
    return find_all(runs, profile)


def possible(missing: list[Run], profile: str, root: str | None = None) -> list[Run]:
    """Those of the runs whose data set is on this machine; how many are not, and what to do, is said in a line.

    Raises
    ------
    DataError
        The profile holds runs on another copy of the data set, whether or not they are of this plan.
    """
    there = set()
    for name in dict.fromkeys(run.dataset for run in missing):
        own = [run for run in missing if run.dataset == name]
        try:
            _faces(name, root)
        except DataError as error:
            print(f"{len(own)} runs on {name} are neither archived nor possible here: {error}")
            continue
        same_copy(name, profile, root)
        there.update(own)
    return [run for run in missing if run in there]


def is_here(name: str, root: str | None = None) -> bool:
    """Whether a data set is on this machine."""
    try:
        _faces(name, root)
    except DataError:
        return False
    return True


def same_copy(name: str, profile: str, root: str | None = None) -> None:
    """Refuse this machine's copy of a data set, if the profile has runs on another.

    Raises
    ------
    DataError
        It has, or the data set is not here.
    """
    copy = _faces(name, root).sha256
    archived = (results_folder(profile) / name).glob("**/run.json")
    if other := sorted({read(path).info["data_sha256"] for path in archived} - {copy}):
        raise DataError(
            f"{name}: runs in {results_folder(profile)} were made on another copy ({other[0][:12]}, this one is "
            f"{copy[:12]}), and runs on two cannot be compared; {anew('them')}, or "
            "look at the archived ones with FERCOMPANION_NO_TRAINING=1"
        )


def side_by_side(runs: int, workers: int | None = None) -> int:
    """How many of so many runs train at a time: one on each GPU; on a CPU as many as it has cores, up to `MOST_WORKERS`.

    Small networks leave most of a CPU idle: two runs of one thread each take half the time of two runs of two
    threads.  torch's number of threads (OMP_NUM_THREADS) is taken as the number of cores to use.

    Parameters
    ----------
    workers : this many instead, if there are as many runs.
    """
    if workers is None:
        workers = torch.cuda.device_count() or min(torch.get_num_threads(), MOST_WORKERS)
    return max(1, min(runs, workers))


def _known_here_alone(runs: list[Run]) -> str:
    """Why processes of their own could not train these runs; empty if nothing speaks against it."""
    path = getattr(sys.modules["__main__"], "__file__", None)
    if not path:  # a notebook, of which they know nothing
        own = {
            name for name in {run.recipe.model for run in runs} if MODELS.get(name) is not PACKAGED.get(name)
        }
        return f"{', '.join(sorted(own))} is known in this notebook alone" if own else ""
    # A script is run once more by each of them, as it is imported.
    unguarded = Path(path).is_file() and "__main__" not in Path(path).read_text(errors="ignore")
    return "without `if __name__ == '__main__':` in this script" * unguarded


def _train(
    missing: list[Run],
    profile: str,
    root: str | None,
    finished: Callable[[Run], object],
    workers: int | None,
) -> None:
    """Train runs one after the other, or side by side; one that fails is named, and the others go on.

    A run that takes its process with it, most often because memory ran out, breaks the whole pool: then what is left
    is trained one at a time, so that the culprit is known, tried once more, and left out.
    """
    workers = side_by_side(len(missing), workers)
    if workers == 1:
        for number, run in enumerate(missing, 1):
            with _named_if_it_fails(run):
                train_run(run, profile, root, label=f"[{number}/{len(missing)}] {run.recipe.name}")
                finished(run)
        return
    ready = []
    for run in missing:  # what several of them need is made once, here
        with _named_if_it_fails(run):
            _shown(run.dataset, root, run.recipe.faces)
            if run.recipe.mask != "none":
                _landmarks(run.dataset, root)
            ready.append(run)
    with tqdm(total=len(ready), desc=f"{profile}: {workers} at a time", unit="run") as bar:
        left = _train_side_by_side(ready, profile, root, finished, workers, bar)
        if left:
            said = (
                "a training process died, most often because memory ran out: going on with one run at a time"
            )
            print(said, file=sys.stderr, flush=True)
        while left:
            culprit, left = left[0], _train_side_by_side(left, profile, root, finished, 1, bar)
            if left and left[0] != culprit:
                continue
            if left:
                print(f"{culprit}: failed (its process died)", file=sys.stderr, flush=True)
                left = left[1:]


def _train_side_by_side(
    runs: list[Run], profile: str, root: str | None, finished: Callable[[Run], object], workers: int, bar
) -> list[Run]:
    """Train runs in processes of their own; returns those that are left if one of the processes dies."""
    start = {"mp_context": multiprocessing.get_context("spawn"), "initializer": _start_worker}
    threads = max(1, torch.get_num_threads() // workers)
    others = multiprocessing.active_children()
    left = dict.fromkeys(runs)
    with ProcessPoolExecutor(workers, **start, initargs=(threads, workers)) as pool:
        try:
            jobs = {pool.submit(train_run, run, profile, root): run for run in runs}
            for job in as_completed(jobs):
                with _named_if_it_fails(jobs[job]):
                    job.result()
                    finished(jobs[job])
                del left[jobs[job]]
                bar.update()
        except BrokenProcessPool:
            pass
        except BaseException:  # none of the others may go on behind one's back
            for child in multiprocessing.active_children():
                if child not in others:
                    child.terminate()
            raise
    return list(left)


@contextmanager
def _named_if_it_fails(run: Run):
    """A loss that is not finite, a missing file of weights: said in one line, and not the end of all."""
    try:
        yield
    except BrokenProcessPool:
        raise
    except Exception as error:
        if is_set("FERCOMPANION_DEBUG"):
            raise
        said = first_line(error)
        print(f"{run}: failed ({type(error).__name__}: {said})", file=sys.stderr, flush=True)


def _start_worker(threads: int, workers: int) -> None:
    """Each of so many workers has its own threads and its own line for the progress bar, and ends with its parent."""
    torch.set_num_threads(threads)
    number = multiprocessing.current_process()._identity[-1] - 1  # goes on counting from pool to pool
    train.BAR_LINE = 1 + number % workers
    if torch.cuda.is_available():  # of several GPUs each worker takes the next
        torch.cuda.set_device(number % torch.cuda.device_count())
    # It is ignored in the background of a script, where Ctrl-C is meant for others.
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    multiprocessing.parent_process().join()
    os._exit(1)


def train_run(run: Run, profile: str, root: str | None = None, label: str = "", machine=None) -> Result:
    """Train, evaluate and archive one run; run.json is written last, so a folder without it is not a run.

    A run that another process has finished by now is read.

    Parameters
    ----------
    profile, root : as in `complete`.
    label : name on the progress bar.
    machine : `predict.Machine`, by default this one's.

    Raises
    ------
    DataError
        The data set is not here, the folder cannot be written, or another process trains this run.
    """
    folder = results_folder(profile) / run.where
    if (found := find(run, profile)) is not None:
        return found
    environment()  # now, and not what is committed while it trains
    faces = _faces(run.dataset, root)
    who = parts(faces, run.protocol, run.fold, run.n_folds)
    marks = None if run.recipe.mask == "none" else _landmarks(run.dataset, root)
    shown = _shown(run.dataset, root, run.recipe.faces)
    with _alone(folder):  # which also finds out before the training whether the folder can be written
        if (found := find(run, profile)) is not None:
            return found
        fitted = train.fit(run.recipe, shown, marks, who, run.seed, folder, machine, label)
        return _archived(run, folder, faces, who, fitted)


@contextmanager
def _alone(folder: Path):
    """Make this folder and keep other processes from it: two would write one checkpoint.  The lock ends with its process."""
    lock = FileLock(folder / ".running", timeout=0)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout:
        raise DataError(f"{folder}: another process trains this run; it is left to that one") from None
    except OSError as error:
        if error.errno not in (errno.ENOLCK, errno.EOPNOTSUPP):
            said = f"{error.strerror}; set FERCOMPANION_RESULTS to a folder to write to"
            raise DataError(f"{folder}: {said}") from None
        said = f"its file system has no locks ({error.strerror}); let no other process train this run"
        print(f"{folder}: {said}", file=sys.stderr)
    try:
        yield
    finally:
        # While it is held: whoever opened it in between sees that it is gone.  Windows refuses, and removes it after.
        with suppress(PermissionError):
            Path(lock.lock_file).unlink(missing_ok=True)
        lock.release()


def _archived(run: Run, folder: Path, faces: Faces, who: Parts, fitted: dict) -> Result:
    """Write what `train.fit` found."""
    for drawn in DRAWN:  # of another network that lay here
        (folder / drawn).unlink(missing_ok=True)
    # Half precision halves the archive; all metrics are computed from what is kept.
    arrays = {k: v.astype(np.float16) if "logits" in k else v for k, v in fitted["predictions"].items()}
    arrays.pop("valid_logits_centre", None)  # the history has PublicTest's centre crops
    for name in [k for k in arrays if "_logits_" in k and not keeps_logits(run, k)]:
        arrays[name.replace("logits", "predicted")] = arrays.pop(name).argmax(1).astype(np.uint8)
    digests = faces.digests()
    for part, rows in (("valid", who.valid), ("test", who.test)):
        if len(rows):
            arrays[f"{part}_labels"] = faces.labels[rows].astype(np.uint8)
            arrays[f"{part}_clean"] = ~np.isin(digests[rows], digests[who.train])
            arrays[f"{part}_subject"] = faces.subject[rows]
    embedding = arrays.pop("test_embedding")
    with whole(folder / "embedding.npy") as file:
        np.save(file, embedding)
    _save_weights(folder / "weights.safetensors", fitted["state"])
    save_arrays(folder / "predictions.npz", **arrays)
    info = {
        "recipe": asdict(run.recipe),
        "dataset": run.dataset,
        "layout": faces.layout,
        "data_sha256": faces.sha256,
        "classes": list(faces.classes),
        "protocol": run.protocol,
        "fold": run.fold,
        "n_folds": run.n_folds,
        "seed": run.seed,
        "n": {"train": len(who.train), "valid": len(who.valid), "test": len(who.test)},
        "epochs": fitted["epochs"],
        "selected_epoch": fitted["selected"],
        "selection": SELECTIONS[run.recipe.select] if len(who.valid) else SELECTIONS["last"],
        "k": fitted["k"],
        "parameters": fitted["parameters"],
        "metrics": summary(arrays, fitted["history"]),
        "embedding": evaluate.distances(embedding, arrays["test_labels"]),
        "machine": fitted["machine"],
        "resumed": fitted["resumed"],
        "train_seconds": round(sum(r["seconds"] for r in fitted["history"]), 1),
        "predict_seconds": round(fitted["predict_seconds"], 1),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        **environment(),
    }
    _write_json(folder / "run.json", info)
    (folder / train.CHECKPOINT).unlink(missing_ok=True)
    return Result(info, folder)


def summary(arrays: dict, history: list[dict]) -> dict:
    """Accuracies in per cent of one run, all recomputable from predictions.npz and history.csv.

    "test_last_epoch" and "test_selected_maximum" (centre crop) stand beside the selected epoch's to show what
    selection on the test set would have reported.
    """
    metrics = {}
    predicted = {k.replace("logits", "predicted"): v.argmax(1) for k, v in arrays.items() if "_logits_" in k}
    predicted |= {k: v for k, v in arrays.items() if "_predicted_" in k}
    for part in ("valid", "test"):
        for view in ("centre", "tencrop", "knn", "occluded"):
            if f"{part}_predicted_{view}" not in predicted:
                continue
            hit = predicted[f"{part}_predicted_{view}"] == arrays[f"{part}_labels"]
            metrics[f"{part}_{view}"] = 100 * float(hit.mean())
            metrics[f"{part}_{view}_clean"] = 100 * float(hit[arrays[f"{part}_clean"]].mean())
    last = predicted["test_predicted_last_epoch"] == arrays["test_labels"]
    metrics["test_last_epoch"] = 100 * float(last.mean())
    metrics["test_selected_maximum"] = max(row["test_accuracy"] for row in history)
    return metrics


@lru_cache(maxsize=1)
def environment() -> dict:
    """Versions and commit that a run was made with."""
    return {
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "torchvision": torchvision.__version__,
            "numpy": np.__version__,
        },
        "commit": _git_commit(),
    }


def _git_commit() -> str:
    """The commit, "+changes" behind it if files of the package are not committed."""

    def git(*words: str) -> str:
        done = subprocess.run(
            ["git", *words], cwd=AROUND, capture_output=True, text=True, timeout=10, check=True
        )
        return done.stdout.strip()

    if not (AROUND / ".git").exists():  # a commit of what lies around says nothing
        return "unknown"
    try:
        changes = "+changes" * bool(git("status", "--porcelain", "--", "fercompanion"))
        return git("rev-parse", "--short=12", "HEAD") + changes
    except (OSError, subprocess.SubprocessError):
        return "unknown"


@lru_cache(maxsize=2)
def _faces(name: str, root: str | None) -> Faces:
    return load_faces(name, root)


@lru_cache(maxsize=2)
def _shown(name: str, root: str | None, how: str) -> Faces:
    """The faces as the network sees them: as they are, or enlarged."""
    return enlarge(_faces(name, root), how)


@lru_cache(maxsize=2)
def _landmarks(name: str, root: str | None):
    return find_landmarks(_faces(name, root))


def _save_weights(path: Path, state: dict) -> None:
    try:
        from safetensors.torch import save
    except ImportError:  # a bare machine; its archive needs no weights
        print(f"{path}: not written, safetensors is not installed")
        return
    with whole(path) as file:  # save_file's own would be for this user alone
        file.write(save({k: v.contiguous() for k, v in state.items()}))


def _write_json(path: Path, info: dict) -> None:
    clear = {name: {k: v if v == v else None for k, v in info[name].items()} for name in NUMBERS}
    with whole(path) as f:
        f.write((json.dumps(info | clear, indent=1, allow_nan=False) + "\n").encode())
