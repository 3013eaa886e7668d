"""The command line: it teaches, and its errors are one line."""

import re

import pytest
from PIL import Image

from fercompanion.__main__ import main
from fercompanion.plans import PROFILES, all_runs, arm_of, literal_lab_runs


def run(capsys, *arguments):
    try:
        code = main(list(arguments))
    except SystemExit as stop:
        code = stop.code
    return code, *capsys.readouterr()


@pytest.mark.parametrize("command", ["", "doctor", "landmarks", "train", "sweep", "predict"])
def test_help_explains(capsys, command):
    code, out, _ = run(capsys, *command.split(), "--help")
    assert code == 0 and len(out.splitlines()) > 5


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("train", "--recipe", "our"), "there is no recipe 'our'"),
        (("train", "--set", "lamda=1"), "no field 'lamda'"),
        (("train", "--set", "epochs=many"), "expected a value like 8"),
        (("train", "--data", "fer"), "There is no data set 'fer'"),
        (("train", "--data", "demo-ck", "--fold", "11"), "expected 1 to 10"),
        (("train", "--data", "demo-ck", "--protocol", "official"), "no official splits"),
        (("sweep", "--profile", "papr"), "there is no profile 'papr'"),
        (("predict", "nowhere.jpg"), "there is no such file"),
        (("predict", "nowhere.jpg", "--run", "nowhere"), "no finished run here"),
    ],
)
def test_errors_are_one_line_with_a_remedy(capsys, arguments, words):
    code, _, error = run(capsys, *arguments)
    assert code == 1 and words in error and len(error.strip().splitlines()) == 1


def test_unreadable_photo(tmp_path):
    from fercompanion.data import DataError
    from fercompanion.photo import read_photo

    (tmp_path / "a.jpg").write_text("no picture")
    with pytest.raises(DataError, match="a.jpg: not a readable image"):
        read_photo(tmp_path / "a.jpg")
    Image.new("RGB", (4000, 10)).save(tmp_path / "long.png")
    assert max(read_photo(tmp_path / "long.png").size) == 1600


def test_train_show_names_every_source(capsys):
    code, out, _ = run(capsys, "train", "--recipe", "paper", "--show")
    assert code == 0 and "Table 1" in out and "assumed" in out


@pytest.mark.parametrize("name", PROFILES)
def test_plans_start_with_one_seed_of_every_arm(name):
    plan = PROFILES[name]
    runs = all_runs(plan)
    assert len(set(runs)) == len(runs) == len({r.where for r in runs})
    assert [arm_of(r) for r in runs[: len(plan.arms)]] == list(plan.arms)
    assert {r.seed for r in runs[: len(plan.arms)]} == {0}
    second = next((place for place, r in enumerate(runs) if r.seed), len(runs))
    late = {r.recipe.name for r in runs} - {r.recipe.name for r in runs[:second]}
    assert late == {r.recipe.name for r in literal_lab_runs(plan)}


def test_dry_run_trains_nothing_and_tells_the_time(capsys, tmp_path):
    code, out, _ = run(capsys, "sweep", "--profile", "demo", "--dry-run")
    assert code == 0 and "0 archived" in out and not (tmp_path / "results").exists()
    assert re.search(r"about (\d+ (s|min)|\d+\.\d h) on this machine", out)


def test_a_part_of_the_plan(capsys):
    part = ("sweep", "--profile", "paper", "--no-estimate", "--dry-run", "--only")
    code, out, _ = run(capsys, *part, "fer2013/ours-lkrnet/")
    assert code == 0 and "5 runs, 0 archived" in out and out.count("epochs\n") == 1
    code, _, err = run(capsys, *part, "fer2014")
    assert code == 1 and "--only fer2014" in err and "\n" not in err.strip()


def test_no_estimate_where_nothing_may_be_trained(capsys, monkeypatch):
    monkeypatch.setenv("FERCOMPANION_NO_TRAINING", "1")
    code, out, _ = run(capsys, "sweep", "--profile", "demo", "--dry-run")
    assert code == 0 and "0 archived" in out and "on this machine" not in out
