"""The notebook runner: one line and the right exit status for every way in which a notebook can stop."""

import gc
import importlib.util
import tempfile
from pathlib import Path

import nbformat
import pytest
import zmq

ROOT = Path(__file__).parents[1]
spec = importlib.util.spec_from_file_location("run_notebooks", ROOT / "tools" / "run_notebooks.py")
run_notebooks = importlib.util.module_from_spec(spec)
spec.loader.exec_module(run_notebooks)


@pytest.fixture
def notebook(tmp_path):
    """A function that writes a notebook with these code cells, below a heading and a parameters cell."""

    def write(name, *sources):
        cells = [
            nbformat.v4.new_markdown_cell("# A heading"),
            nbformat.v4.new_code_cell("profile = 'demo'\nseed = 0", metadata={"tags": ["parameters"]}),
            *map(nbformat.v4.new_code_cell, sources),
        ]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        nbformat.write(
            nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel}), tmp_path / name
        )
        return str(tmp_path / name)

    return write


@pytest.fixture
def run(tmp_path, capsys):
    """A function that runs the tool: (exit status, standard output, lines on standard error)."""

    def call(*arguments):
        status = run_notebooks.main([*arguments, "--out", str(tmp_path / "out")])
        out, err = capsys.readouterr()
        return status, out, err.splitlines()

    return call


def printed(path):
    """What the cells wrote to standard output."""
    cells = nbformat.read(path, as_version=4).cells
    return "".join(output.text for cell in cells for output in cell.get("outputs", []) if "text" in output)


def test_runs_in_order_with_parameters_in_the_notebooks_folder(notebook, run, tmp_path):
    first = notebook("01_first.ipynb", "import os\nprint(profile, seed, os.getcwd())", "")
    second = notebook("02_second.ipynb", "print(seed + 1)")
    before = Path(first).read_text()
    status, out, err = run(first, second, "--profile", "paper-cpu", "-p", "seed=3")
    assert (status, err) == (0, [])
    assert out.index("[1/2] 01_first.ipynb ... ok") < out.index("[2/2] 02_second.ipynb ... ok")
    assert printed(tmp_path / "out" / "01_first.ipynb") == f"paper-cpu 3 {tmp_path}\n"
    assert printed(tmp_path / "out" / "02_second.ipynb") == "4\n"
    assert Path(first).read_text() == before


STOPS = {
    "raises": ("\n# why\nraise ValueError('no good')", "ValueError: no good", "# why"),
    "exits": ("import sys; sys.exit(0)", "the kernel ended before the last cell", None),
    "killed": ("import os; os.kill(os.getpid(), 9)", "memory", None),
}


@pytest.mark.parametrize("case", STOPS)
def test_a_notebook_that_stops_gives_one_line_and_status_1(case, notebook, run):
    source, problem, line = STOPS[case]
    bad = notebook("bad.ipynb", source, "print('later')")
    status, out, err = run(bad, bad, "-p", "seed=1")  # the second is not run any more
    assert status == 1
    assert len(err) == 1
    assert err[0].startswith(f"bad.ipynb, code cell 2 ({line or source}): ")
    assert problem in err[0]
    assert err[0].endswith("bad.ipynb") and "output saved in" in err[0]
    assert out.count("FAILED") == 2 and "not run" in out  # the progress line and the table


def test_keep_going(notebook, run):
    status, out, err = run(notebook("a.ipynb", "1 / 0"), notebook("b.ipynb", "1"), "--keep-going")
    assert (status, len(err)) == (1, 1)
    assert "[2/2] b.ipynb ... ok" in out


def test_two_at_a_time(notebook, run, tmp_path):
    """One that fails does not take along what runs beside it, but nothing is begun after it."""
    shown = notebook("b.ipynb", "import os\nprint(profile, seed, os.environ['OMP_NUM_THREADS'])")
    others = [notebook(f"{name}.ipynb", "1") for name in "cdef"]
    status, out, err = run(
        notebook("a.ipynb", "1 / 0"),
        shown,
        *others,
        "--workers",
        "2",
        "--profile",
        "paper",
        "-p",
        "seed='007'",
    )
    assert status == 1 and [line.split(";")[0] for line in err] == [
        "a.ipynb, code cell 2 (1 / 0): ZeroDivisionError: division by zero"
    ]
    assert "a.ipynb FAILED after" in out and "b.ipynb ok after" in out and "f.ipynb      0.0  not run" in out
    assert printed(tmp_path / "out" / "b.ipynb").startswith("paper 007 ")


@pytest.mark.skipif(not zmq.IPC_PATH_MAX_LEN, reason="files cannot be sockets here")
def test_kernels_listen_on_files_whose_names_are_short_enough(notebook, run, tmp_path, monkeypatch):
    """A port may be taken by another kernel in the time between its choice and the kernel's start."""
    told = "import json\nfrom ipykernel.connect import get_connection_info\nprint(json.loads(get_connection_info())['transport'])"
    for folder, transport in ((tmp_path / "t", "ipc"), (tmp_path / ("t" * zmq.IPC_PATH_MAX_LEN), "tcp")):
        folder.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        assert run(notebook("a.ipynb", told))[0] == 0
        assert printed(tmp_path / "out" / "a.ipynb") == f"{transport}\n"
        gc.collect()
        assert not [p for p in folder.iterdir() if p.is_dir()]


def test_wrong_calls_give_one_line_and_status_2(notebook, run, tmp_path):
    path = notebook("a.ipynb", "1")
    (tmp_path / "broken.ipynb").write_text("not json")
    for arguments, problem in [
        ([path, "-p", "sed=1"], "a.ipynb has no parameter 'sed'; its parameters: profile, seed"),
        ([path, "--in-place", "-p", "seed=1"], "--in-place keeps"),
        ([str(tmp_path / "none.ipynb")], "there is no such notebook"),
        ([str(tmp_path / "broken.ipynb")], "broken.ipynb: not a notebook"),
    ]:
        status, out, err = run(*arguments)
        assert (status, out, len(err)) == (2, "", 1)
        assert problem in err[0]


def test_in_place_changes_outputs_only_and_only_after_success(notebook, run, monkeypatch):
    monkeypatch.setattr(run_notebooks, "ROOT", Path("/somewhere/fercompanion"))
    good = notebook(
        "good.ipynb",
        "import sys, warnings\nprint('/somewhere/fercompanion/results', sys.prefix + '/lib')",
        "warnings.warn('look here')",
        "print(' 50%|███  | 1/2', file=sys.stderr)",
    )
    bad = notebook("bad.ipynb", "1 / 0")
    before, failing = nbformat.read(good, as_version=4), Path(bad).read_text()
    status, _, err = run(good, bad, "--in-place")
    assert (status, len(err)) == (1, 1)
    assert Path(bad).read_text() == failing
    after = nbformat.read(good, as_version=4)
    assert [cell.get("execution_count") for cell in after.cells] == [None, 1, 2, 3, 4]
    texts = [output.text for cell in after.cells for output in cell.get("outputs", [])]
    assert texts[0] == "results ~/.venv/lib\n"
    assert texts[1].startswith("cell.py:1: UserWarning: look here")
    for cell in after.cells:
        if cell.cell_type == "code":
            cell.update(outputs=[], execution_count=None)
    assert after == before


def test_the_same_outputs_are_the_same_text(notebook, run):
    table = "import pandas as pd\npd.DataFrame({'a': [1]}).style.format('{:.1f}')"
    path = notebook("table.ipynb", table, table)
    texts = []
    for _ in range(2):
        assert run(path, "--in-place")[0] == 0
        texts.append(Path(path).read_text())
    assert texts[0] == texts[1]
    assert "table1_row0_col0" in texts[0] and "table2_row0_col0" in texts[0]


def test_a_file_where_one_works_is_found_from_the_notebooks_folder(notebook, tmp_path, monkeypatch):
    path = Path(notebook("a.ipynb", "1"))
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "me.jpg").touch()
    monkeypatch.chdir(tmp_path / "here")
    assert run_notebooks._parameters(path, None, {"profile": "me.jpg"}) == {
        "profile": str(tmp_path / "here" / "me.jpg")
    }
    assert run_notebooks._parameters(path, None, {"profile": "you.jpg"}) == {"profile": "you.jpg"}


def test_values_of_parameters():
    values = dict(map(run_notebooks._assignment, ["a=3", "b=paper-cpu", "c=007", "d=[1, 2]", "e=True", "f="]))
    assert values == {"a": 3, "b": "paper-cpu", "c": "007", "d": [1, 2], "e": True, "f": ""}
