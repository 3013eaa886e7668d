"""The files that say what is installed agree: pyproject.toml, requirements.txt, environment.yml, Makefile."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import requires, version
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
LINES = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line and line[0] != "#"]
LOCK = {canonicalize_name(r.name): r for r in map(Requirement, LINES)}
MAIN = (
    "torch",
    "torchvision",
    "numpy",
    "scipy",
    "scikit-learn",
    "pandas",
    "matplotlib",
    "umap-learn",
    "grad-cam",
    "papermill",
    "nbval",
    "pytest",
    "ruff",
)


def pin(name):
    """The locked version."""
    (specifier,) = LOCK[canonicalize_name(name)].specifier
    return specifier.version


def test_the_lock_holds_exact_pins_that_any_platform_can_install():
    assert len(LOCK) == len(LINES)  # nothing twice
    for line, requirement in zip(LINES, LOCK.values(), strict=True):
        assert [s.operator for s in requirement.specifier] == ["=="], line
        assert requirement.url is None, line
        assert not requirement.name.startswith(("nvidia-", "cuda-", "triton", "facenet")), line
    for name, platform in {"appnope": "darwin", "colorama": "win32", "pywinpty": "win32"}.items():
        assert str(LOCK[name].marker) == f'sys_platform == "{platform}"'
    for name in ("pexpect", "ptyprocess"):
        assert str(LOCK[name].marker) == 'sys_platform != "win32"'


def test_every_dependency_of_the_project_is_locked():
    extras = PROJECT["optional-dependencies"].values()
    for requirement in map(Requirement, PROJECT["dependencies"] + sum(extras, [])):
        name = canonicalize_name(requirement.name)
        assert name in LOCK, f"{name} is in pyproject.toml and not in requirements.txt"
        assert LOCK[name].marker is None
        assert requirement.specifier.contains(pin(name)), f"{requirement} forbids the locked {pin(name)}"


def test_torch_and_torchvision_are_a_pair():
    """The installed torchvision, which is the locked one, says which torch it was made for."""
    wanted = {r.name: r.specifier for r in map(Requirement, requires("torchvision"))}
    assert str(wanted["torch"]) == f"=={pin('torch')}"


def test_conda_takes_everything_but_python_from_the_lock():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    assert environment["channels"] == ["conda-forge", "nodefaults"]
    *packages, pip = environment["dependencies"]
    assert pip["pip"] == ["-r requirements.txt", "-e ."]
    python = next(p for p in packages if p.startswith("python "))
    assert python.removeprefix("python ").split(",")[0] == PROJECT["requires-python"] == ">=3.11"
    assert not {p.split()[0] for p in packages} - {"python", "pip", "make"}
    name = environment["name"]
    assert f"ifeq ($(CONDA_DEFAULT_ENV),{name})" in (ROOT / "Makefile").read_text()


def test_facenet_is_pinned_alike_wherever_it_is_named():
    files = ["Makefile", "requirements.txt", "fercompanion/landmarks.py"]
    found = {file: set(re.findall(r"facenet-pytorch==[\w.]+", (ROOT / file).read_text())) for file in files}
    assert found == dict.fromkeys(files, {"facenet-pytorch==2.6.0"})


@pytest.mark.parametrize("name", MAIN)
def test_installed_is_what_is_locked(name):
    assert version(name).split("+")[0] == pin(name)  # torch's version may end in +cpu


def test_no_file_of_the_environment_names_a_package_index():
    for file in ("requirements.txt", "environment.yml", "Makefile", "pyproject.toml"):
        assert not re.search(r"https?://|--(extra-)?index|--find-links", (ROOT / file).read_text()), file


def test_modules_import_only_from_those_above_them():
    """In the order of README's code map."""
    block = (ROOT / "README.md").read_text("utf-8").split("## Code map")[1].split("```")[1]
    places: dict[str, int] = {}
    for place, line in enumerate(block.strip().splitlines()):
        names = re.match(r"[a-z_0-9/]+(, [a-z_0-9/]+)*", line)[0].split(", ")
        places |= {name.strip("/"): place for name in names}
    package = ROOT / "fercompanion"
    modules = {p.stem if p.parent == package else p.parent.name for p in package.glob("**/*.py")}
    assert modules - {"__init__", "__main__", "fercompanion"} == set(places)
    for path in package.glob("**/*.py"):
        own = path.stem if path.parent == package else path.parent.name
        if own not in places:
            continue
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            named = [node.module.split(".")[0]] if node.module else [a.name for a in node.names]
            if path.parent != package and node.level == 1:  # within models/ or papers/
                continue
            assert all(places[name] <= places[own] for name in named), (path.name, named)


@pytest.mark.skipif(not shutil.which("git"), reason="no git here")
def test_without_the_repository_results_go_where_one_works(tmp_path):
    """As pip installs it, and never into site-packages; nor is a commit of what lies around it noted."""
    shutil.copytree(ROOT / "fercompanion", tmp_path / "site" / "fercompanion")
    (tmp_path / "work").mkdir()
    git = ["git", "-C", tmp_path / "work", "-c", "user.name=a", "-c", "user.email=a@b.c"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-qm", "another's", "--allow-empty"], check=True)
    told = "from fercompanion import runs, sweeps; print(runs.results_folder('mine'), sweeps._git_commit())"
    done = subprocess.run(
        [sys.executable, "-c", told],
        cwd=tmp_path / "work",
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site"), "FERCOMPANION_RESULTS": ""},
        capture_output=True,
        text=True,
    )
    assert done.stdout == f"{tmp_path / 'work' / 'results' / 'mine'} unknown\n", done.stderr
