"""The example plugin, held to the contract as an installed package."""

import subprocess
import sys

from aigc_text import load
from aigc_text.testing import check_backend


def test_keeps_the_contract():
    assert len(list(check_backend("markov"))) >= 6


def test_follows_its_text(tmp_path):
    book = tmp_path / "book.txt"
    book.write_text("a b c a b c a b c", encoding="utf-8")
    [made] = load("markov", str(book)).generate(["a"], max_new_tokens=4, seed=1)
    assert made.text == " b c a b"


def test_command_line(tmp_path):
    book = tmp_path / "book.txt"
    book.write_text("one two one two one two", encoding="utf-8")
    words = ["generate", "--backend", "markov", "--model", str(book), "--prompt", "one", "--max-new-tokens", "2"]
    done = subprocess.run([sys.executable, "-m", "aigc_text", *words], capture_output=True, text=True, check=True)
    assert done.stdout == "one two one\n"


def test_not_a_text(tmp_path):
    missing = str(tmp_path / "no.txt")
    words = ["generate", "--backend", "markov", "--model", missing]
    done = subprocess.run([sys.executable, "-m", "aigc_text", *words], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no.txt" in done.stderr and "Traceback" not in done.stderr
