"""tqdm's progress bar; on a bare machine without tqdm, its silent stand-in."""

from __future__ import annotations

try:
    from tqdm import tqdm
except ImportError:

    class tqdm:  # noqa: N801
        """What this project uses of tqdm, without a bar: one line where a bar would begin."""

        def __init__(self, iterable=(), desc: str = "", **_):
            self.iterable = iterable
            if desc:
                print(desc, flush=True)

        def __iter__(self):
            return iter(self.iterable)

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def update(self, n: int = 1):
            pass

        def set_postfix(self, *_, **__):
            pass


__all__ = ["tqdm"]
