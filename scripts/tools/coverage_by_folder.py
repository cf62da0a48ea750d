"""The tests' coverage of each folder of the package: `coverage_by_folder.py coverage.json`.

The file is written by `pytest --cov=aigc_text --cov-report=json:coverage.json`. What tests run in processes of their
own (commands, kills, the sandbox) is not counted, so these are lower bounds.
"""

from __future__ import annotations

import collections
import json
import sys
from pathlib import Path


def folders(files: dict[str, dict[str, dict[str, int]]]) -> dict[str, tuple[int, int]]:
    """(covered lines, all lines) of each folder, by its path below the package."""
    found: dict[str, tuple[int, int]] = collections.defaultdict(lambda: (0, 0))
    for name, file in files.items():
        folder = Path(name[name.rindex("aigc_text/") :]).parent.as_posix()
        covered, lines = found[folder]
        summary = file["summary"]
        found[folder] = covered + summary["covered_lines"], lines + summary["num_statements"]
    return dict(sorted(found.items()))


def main() -> None:
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    rows = folders(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))["files"])
    rows["all"] = tuple(map(sum, zip(*rows.values(), strict=True)))
    width = max(map(len, rows))
    for folder, (covered, lines) in rows.items():
        if lines:
            print(f"{folder:{width}}  {covered / lines:6.1%} of {lines:5}")


if __name__ == "__main__":
    main()
