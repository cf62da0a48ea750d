"""Importing the package, printing help and listing backends stay light; seen in sys.modules, not on a clock."""

import json
import subprocess
import sys

HEAVY = ["torch", "transformers", "datasets", "accelerate", "evaluate", "matplotlib"]

SCRIPT = """
import contextlib, io, json, sys
import aigc_text, aigc_text.cli, aigc_text.registry

def loaded():
    return [name for name in sys.argv[1].split() if name in sys.modules]

def printed(*words):
    sys.argv[1:], kept = words, sys.argv[1:]
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        try:
            aigc_text.cli.main()
        except SystemExit as end:
            code = end.code
    sys.argv[1:] = kept
    return {"heavy": loaded(), "code": code, "out": out.getvalue()}

found = {"import": {"heavy": loaded()}}
aigc_text.registry.list_backends()
found["list"] = {"heavy": loaded()}
helps = [[command, "--help"] for command in ("generate", "train", "score")]
for words in (["--help"], ["backends"], ["backends", "--json"], *helps):
    found[" ".join(words)] = printed(*words)
print(json.dumps(found))
"""


def test_import_help_and_listing_load_nothing_heavy():
    done = subprocess.run([sys.executable, "-c", SCRIPT, " ".join(HEAVY)], capture_output=True, text=True, check=True)
    found = json.loads(done.stdout)
    assert {name: part["heavy"] for name, part in found.items()} == dict.fromkeys(found, [])
    assert all(part.get("code", 0) == 0 for part in found.values())
    assert "generate" in found["--help"]["out"] and "gpt2" in found["backends"]["out"]
    assert "--temperature" in found["generate --help"]["out"]
