"""The page of a profile's figures and tables, in the order of the notebooks: figures/<profile>/README.md."""

from __future__ import annotations

import re
import subprocess
from fnmatch import fnmatch
from pathlib import Path

from fercompanion import plans

HERE = Path(__file__).resolve().parents[1]
ROW = re.compile(r"^\| (?P<title>[^|]+) \| (?P<notebook>\[[^|]+\)) \| (?P<names>`[^|]+`) \|$", re.MULTILINE)
"""A line of README's table of figures: what, drawn by which notebook, written under which names."""


def page(plan: plans.Profile) -> str:
    """The page of a profile.

    Raises
    ------
    ValueError
        README's table lacks a figure that lies there.
    """
    left = [path for path in committed(HERE / "figures" / plan.name) if path.suffix in (".png", ".csv")]
    blocks = [
        f"# Figures and tables of the profile `{plan.name}`",
        "In the order of the notebooks; pictures of licensed faces are left out. What was drawn from runs says below it from which "
        f"(the picture of all claims, in its table). `make figures PROFILE={plan.name}` draws all anew, and as PDF too. "
        "(tools/update_readme.py writes this page.)",
        "\n".join(f"- {note}" for note in dict.fromkeys(plan.notes.values())),
    ]
    for row in ROW.finditer((HERE / "README.md").read_text("utf-8")):
        patterns = re.findall(r"`([^`]+)`", row["names"])
        own = [path for path in left if any(fnmatch(path.stem, pattern) for pattern in patterns)]
        left = [path for path in left if path not in own]
        pictures = [f"![{path.stem}]({path.name})" for path in own if path.suffix == ".png"]
        numbers = ", ".join(f"[{path.stem}]({path.name})" for path in own if path.suffix == ".csv")
        if own:
            notebook = row["notebook"].replace("(notebooks/", "(../../notebooks/")
            title = row["title"][0].upper() + row["title"][1:]
            title = title if re.match("DNNRL|Liu|Kim|All", title) else f"LKRNet: {title}"
            blocks += [
                f"## {title}",
                f"Notebook {notebook}{f'. As tables: {numbers}' * bool(numbers)}",
                *pictures,
            ]
    if left:
        raise ValueError(f"README.md, figures: no line for {', '.join(path.stem for path in left)}")
    return "\n\n".join(blocks) + "\n"


def committed(folder: Path) -> list[Path]:
    """The files of a folder that git does not ignore; all of them where it knows none."""
    try:
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", str(folder)]
        done = subprocess.run(command, cwd=HERE, capture_output=True, text=True, check=True)
        known = {HERE / name for name in done.stdout.split("\0") if name}
    except (OSError, subprocess.SubprocessError):
        known = set()
    return sorted(path for path in folder.iterdir() if not known or path in known)
