"""The committed notebooks: run to the end, with the demo profile, so that no licensed face can be in them."""

import ast
import re

import nbformat
import pytest

from fercompanion.runs import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
DEFAULTS = {"profile": "demo", "network": "demo", "root": "", "photo": ""}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_committed_with_the_outputs_of_the_demo_profile(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    parameters = [cell for cell in code if "parameters" in cell.metadata.get("tags", [])]
    assert len(parameters) == 1
    values = {n.target.id: ast.literal_eval(n.value) for n in ast.parse(parameters[0].source).body}
    assert values and all(DEFAULTS[name] == value for name, value in values.items())
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert not [o for cell in code for o in cell.outputs if o.output_type == "error"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_no_function_lives_in_a_notebook(path):
    code = "\n".join(c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code")
    assert not re.search(r"^\s*(def|class) ", code, re.M)


def test_the_readme_names_every_notebook_and_real_minutes():
    text = (ROOT / "README.md").read_text()
    assert all(path.name in text or path.stem.startswith("00") for path in NOTEBOOKS)
    assert "_MINUTES" not in text
