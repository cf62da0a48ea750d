"""kill -9 at any moment: no corrupt checkpoint is loaded, and the resumed run ends byte for byte the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import tiny


@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked")
def test_killed_runs_resume_to_the_same_bytes(tmp_path):
    data = tmp_path / "data.txt"
    data.write_text("\n".join(tiny.SENTENCES * 30), encoding="utf-8")
    model = tiny.save("gpt2", tmp_path / "model")
    driver = Path(__file__).with_name("kill_driver.py")
    done = subprocess.run(
        [sys.executable, str(driver), str(model), str(data), str(tmp_path), "20", "5"],
        capture_output=True,
        text=True,
        timeout=900,  # against hanging
        env={**os.environ, "OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    cases = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(cases) == 20
    assert all(c["killed"] for c in cases if c["inside"])
    assert sum(c["killed"] for c in cases) >= 15  # a late kill may find the run at its end
    assert [c for c in cases if c["code"] or c["different"]] == []
    assert len({tuple(c["steps"]) for c in cases}) > 3  # the moments really differ
