"""Run notebooks with papermill, and say in one line what went wrong where.

The results go to a folder that git ignores; the notebooks themselves stay as they are, unless --in-place asks
for new outputs. A kernel works in its notebook's folder, as it does in JupyterLab.

    python tools/run_notebooks.py                           all notebooks, with their own parameters
    python tools/run_notebooks.py --profile paper-cpu       all notebooks, with the runs of that profile
    python tools/run_notebooks.py notebooks/00_*.ipynb -p network=paper-cpu -p photo=/folder/me.jpg
    python tools/run_notebooks.py --in-place                new outputs for the committed notebooks

It ends with a table, and with status 0 only if every notebook ran through to its last cell: 1 if one failed,
2 if the call was wrong, 130 if it was interrupted.
"""

from __future__ import annotations

import argparse
import ast
import base64
import io
import logging
import os
import re
import subprocess
import sys
import time
import traceback
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import nbformat
import papermill
from jupyter_client import AsyncKernelManager
from jupyter_client.kernelspec import NoSuchKernel
from kernels import OnFiles
from nbclient.exceptions import DeadKernelError
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
STYLED_TABLE = re.compile(r"\bT_[0-9a-f]{5}(?![0-9a-f])")  # pandas draws these names at random
ADDRESS = re.compile(r" at 0x[0-9a-f]+")
CELL_FILE = re.compile(r"[^\s'\"]*ipykernel_\d+[/\\]\d+\.py")  # how warnings name a cell, with a process id


class NotebookError(Exception):
    """One line for the user."""


class Kernel(OnFiles, AsyncKernelManager):
    """papermill's own, on files."""


class SilentKernel(Kernel):
    """The same without its log, which is about its sockets; what cells print is none of it."""

    def start_kernel(self, **options):
        """Start it."""
        return super().start_kernel(**options, stderr=subprocess.DEVNULL)


def main(arguments: list[str] | None = None) -> int:
    """Run the notebooks asked for; returns the exit status."""
    options = _options(arguments)
    try:
        jobs = _jobs(options)
    except NotebookError as error:
        print(error, file=sys.stderr)
        return 2
    folder = "in-place" if options.in_place else options.profile or "defaults"
    out = (options.out or ROOT / "build" / "notebooks" / folder).resolve()
    out.mkdir(parents=True, exist_ok=True)
    for name in ("FERCOMPANION_DATA", "FERCOMPANION_RESULTS", "FERCOMPANION_CACHE"):
        if os.environ.get(name):  # a kernel works in its notebook's folder
            os.environ[name] = str(Path(os.environ[name]).expanduser().resolve())
    logging.getLogger("papermill").setLevel(logging.CRITICAL)  # what it warns of is in our lines

    start, workers = time.monotonic(), min(options.workers, len(jobs))
    rows = side_by_side(jobs, out, options, workers) if workers > 1 else one_by_one(jobs, out, options)
    if rows is None:
        return 130
    _print_table(rows, time.monotonic() - start)
    if not options.in_place:
        print(f"with their outputs: {_short(out)}")
    return int(any(status != "ok" for *_, status in rows))


def one_by_one(jobs: list, out: Path, options: argparse.Namespace) -> list[tuple[str, float, str]] | None:
    """Run notebooks here; returns (name, seconds, status) of each, None if it was interrupted."""
    rows = []
    for number, (path, parameters) in enumerate(jobs, 1):
        if any(status == "FAILED" for *_, status in rows) and not options.keep_going:
            rows.append((path.name, 0.0, "not run"))
            continue
        print(f"[{number}/{len(jobs)}] {path.name} ...", end="\n" if options.verbose else " ", flush=True)
        start, error = time.monotonic(), None
        try:
            run_notebook(path, out / path.name, parameters, options.verbose)
            if options.in_place:
                put_back(path, out / path.name)
        except NotebookError as failure:
            error = failure
        except KeyboardInterrupt:
            print(f"interrupted; what it had printed is in {_short(out / path.name)}", flush=True)
            return None
        rows.append((path.name, time.monotonic() - start, "FAILED" if error else "ok"))
        print(f"{rows[-1][2]} after {rows[-1][1]:.1f} s", flush=True)
        if error:
            print(error, file=sys.stderr, flush=True)
            if options.verbose and error.__cause__:
                traceback.print_exception(error.__cause__)
    return rows


def side_by_side(
    jobs: list, out: Path, options: argparse.Namespace, workers: int
) -> list[tuple[str, float, str]] | None:
    """The same with so many at a time, each by this tool in a process of its own, with its share of the cores."""
    threads = max(1, (os.cpu_count() or 1) // workers)
    shared = os.environ | {"OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS") or str(threads)}
    switches = [s for s in ("--in-place", "--verbose") if getattr(options, s[2:].replace("-", "_"))]

    rows = dict.fromkeys((path for path, _ in jobs), (0.0, "not run"))
    failed = False

    def apart(path: Path, parameters: dict) -> tuple[float, subprocess.CompletedProcess] | None:
        if failed and not options.keep_going:
            return None
        begun = time.monotonic()
        command = [sys.executable, __file__, str(path), "--out", str(out), *switches]
        for name, value in parameters.items():
            command += ["-p", f"{name}={value!r}"]
        done = subprocess.run(command, capture_output=not options.verbose, text=True, env=shared)
        return time.monotonic() - begun, done

    with ThreadPoolExecutor(workers) as pool:
        waiting = {pool.submit(apart, *job): job[0] for job in jobs}
        try:
            for number, job in enumerate(as_completed(waiting), 1):
                if (found := job.result()) is None:
                    continue
                (seconds, done), path = found, waiting[job]
                rows[path] = seconds, "FAILED" if done.returncode else "ok"
                print(f"[{number}/{len(jobs)}] {path.name} {rows[path][1]} after {seconds:.1f} s", flush=True)
                print(done.stderr or "", end="", file=sys.stderr, flush=True)
                failed |= done.returncode != 0
        except KeyboardInterrupt:  # the processes have it, too, and save what they had
            pool.shutdown(cancel_futures=True)
            print(f"interrupted; what the notebooks had printed is in {_short(out)}", flush=True)
            return None
    return [(path.name, *row) for path, row in rows.items()]


def run_notebook(path: Path, output: Path, parameters: dict, verbose: bool = False) -> None:
    """Execute one notebook in its own folder; `output` is saved after every cell.

    Raises
    ------
    NotebookError
        A cell raised or was never finished, or the kernel died.
    """
    output.unlink(missing_ok=True)  # an old result must not pass for this one
    path, cause = path.resolve(), None
    try:
        done = papermill.execute_notebook(
            path,
            output,
            parameters,
            kernel_name="python3",
            cwd=path.parent,
            progress_bar=False,
            stdout_file=sys.stdout if verbose else None,
            coalesce_streams=True,
            kernel_manager_class=Kernel if verbose else SilentKernel,
        )
        if all(cell.metadata.papermill.status == "completed" for cell in done.cells):
            return
        problem = "the kernel ended before the last cell (a call of sys.exit?)"
    except papermill.PapermillExecutionError as error:
        problem, cause = f"{error.ename}: {_first_line(error.evalue)}", error
    except DeadKernelError as error:
        problem, cause = "the kernel died, most often because memory ran out: close other programs", error
    except NoSuchKernel as error:
        problem, cause = "this Python has no kernel named python3; run make setup", error
    except Exception as error:
        problem, cause = f"{type(error).__name__}: {_first_line(str(error))}", error
    saved = f"; output saved in {_short(output)}" if output.is_file() else ""
    raise NotebookError(f"{path.name}{_last_started(output)}: {problem}{saved}") from cause


def put_back(path: Path, executed: Path) -> None:
    """Give a notebook the outputs of its executed copy and nothing else of it: no times, no tags, no paths.

    Tables are numbered, so that the same outputs are the same text.  The file is replaced in one step.
    """
    from fercompanion.whole import whole  # brings torch along, which nobody else here needs

    numbers: dict[str, str] = {}
    notebook, copy = (nbformat.read(p, as_version=4) for p in (path, executed))
    for cell, done in zip(notebook.cells, copy.cells, strict=True):
        if cell.cell_type == "code":
            cell.execution_count = done.execution_count
            bars = [re.search(r"\d%\|", output.get("text", "")) for output in done.outputs]
            kept = [output for output, bar in zip(done.outputs, bars, strict=True) if not bar]
            cell.outputs = [_smaller(_numbered(_without_paths(output), numbers)) for output in kept]
    with whole(path) as file:
        file.write((nbformat.writes(notebook) + "\n").encode())


def _jobs(options: argparse.Namespace) -> list[tuple[Path, dict]]:
    """The notebooks with what to inject into each."""
    if options.in_place and (options.profile or options.parameters):
        raise NotebookError("--in-place keeps the notebooks' own parameters: no --profile, no --parameters")
    if options.profile:
        from fercompanion.plans import PROFILES  # loads torch, which the wrong call should not wait for

        if options.profile not in PROFILES:
            raise NotebookError(f"--profile {options.profile}: the profiles are {', '.join(PROFILES)}")
    notebooks = options.notebooks or sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
    if not notebooks:
        raise NotebookError("there are no notebooks in notebooks/")
    return [(path, _parameters(path, options.profile, dict(options.parameters))) for path in notebooks]


def _parameters(path: Path, profile: str | None, wanted: dict) -> dict:
    """What to inject; names are checked here, as papermill only warns of those that are not there.

    A file that lies where one works is named in full: a kernel works in its notebook's folder.
    """
    if not path.is_file():
        raise NotebookError(f"{path}: there is no such notebook")
    try:
        known = papermill.inspect_notebook(path.resolve())
    except Exception as error:
        raise NotebookError(f"{path.name}: not a notebook ({_first_line(str(error))})") from error
    for name in wanted:
        if name not in known:
            has = ", ".join(known) or "none"
            raise NotebookError(f"{path.name} has no parameter {name!r}; its parameters: {has}")
    files = {k: v for k, v in wanted.items() if isinstance(v, str) and Path(v).is_file()}
    wanted |= {name: str(Path(file).resolve()) for name, file in files.items()}
    return ({"profile": profile} if profile and "profile" in known else {}) | wanted


def _last_started(output: Path) -> str:
    """', code cell N (its first line)' of the last cell that was started; papermill's own cells do not count.

    Its status does not tell: papermill calls every cell completed when the kernel has died.
    """
    cells = nbformat.read(output, as_version=4).cells if output.is_file() else []
    code = [c for c in cells if c.cell_type == "code" and "injected-parameters" not in c.metadata.tags]
    started = [(n, c) for n, c in enumerate(code, 1) if c.metadata.papermill["start_time"]]
    return "".join(f", code cell {n} ({_first_line(c.source)})" for n, c in started[-1:])


def _without_paths(output):
    """The output with paths relative to the repository, ~ for the home folder, and no process ids or addresses."""
    if isinstance(output, dict):
        for key in [key for key in output if not key.startswith("image/")]:
            output[key] = _without_paths(output[key])
    elif isinstance(output, list):
        output = [_without_paths(value) for value in output]
    elif isinstance(output, str):
        output = ADDRESS.sub("", CELL_FILE.sub("cell.py", output))
        output = output.replace(f"{ROOT}{os.sep}", "").replace(str(ROOT), ".")
        output = output.replace(sys.prefix, "~/.venv").replace(str(Path.home()), "~")
    return output


def _numbered(output, numbers: dict[str, str]):
    """The output with pandas' names of styled tables, which are new each time, replaced by numbers."""
    html = output.get("data", {}).get("text/html")
    if html is not None:
        output["data"]["text/html"] = STYLED_TABLE.sub(
            lambda name: numbers.setdefault(name[0], f"table{len(numbers) + 1}"), html
        )
    return output


def _smaller(output):
    """The output with its pictures in fewer colours."""
    from fercompanion.figures import reduced

    data = output.get("data", {})
    if "image/png" in data:
        with Image.open(io.BytesIO(base64.b64decode(data["image/png"]))) as picture:
            small = reduced(picture)
        buffer = io.BytesIO()
        small.save(buffer, "PNG", optimize=True)
        data["image/png"] = base64.b64encode(buffer.getvalue()).decode()
    return output


def _print_table(rows: list[tuple[str, float, str]], in_all: float) -> None:
    width = max(len(name) for name, *_ in rows)
    print(f"\n{'notebook':<{width}}  seconds  status")
    for name, seconds, status in [*rows, ("all", in_all, "")]:
        print(f"{name:<{width}}  {seconds:7.1f}  {status}".rstrip(), flush=True)


def _first_line(text: str) -> str:
    return next((line.strip() for line in text.splitlines() if line.strip()), "")


def _short(path: Path) -> str:
    return os.path.relpath(path) if path.is_relative_to(Path.cwd()) else str(path)


def _assignment(text: str) -> tuple[str, object]:
    """'name=value' as (name, value); a value that is no Python literal is a string (paper-cpu, 007)."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form name=value")
    try:
        value = ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value
    # papermill would write a tuple or a set as the string of itself
    return name, list(value) if isinstance(value, (tuple, set)) else value


def _options(arguments: list[str] | None) -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser("run_notebooks.py", description=__doc__, formatter_class=raw)
    add = parser.add_argument
    add("notebooks", nargs="*", type=Path, help="notebooks to run (default: notebooks/[0-9]*.ipynb in order)")
    add("--profile", help="value for every notebook that has a parameter `profile`, such as paper-cpu")
    add(
        "-p",
        "--parameters",
        type=_assignment,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another parameter; repeatable; the value is a Python literal, or else a string",
    )
    add(
        "--out",
        type=Path,
        help="folder of the executed notebooks (default: build/notebooks/PROFILE, or defaults)",
    )
    add("--in-place", action="store_true", help="put the new outputs into the notebooks that ran through")
    add(
        "--workers", type=int, default=1, help="so many notebooks at a time, each with its share of the cores"
    )
    add("--keep-going", action="store_true", help="go on with the next notebook after one has failed")
    add(
        "--verbose",
        action="store_true",
        help="show what the cells print while they run, the kernels' own log, and tracebacks",
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
