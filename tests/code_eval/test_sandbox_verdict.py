"""The verdict on a program: who may write it, and what of the program's objects and errors enters it."""

import importlib.util
import json
import os
import threading

import pytest

from aigc_text.code_eval.sandbox.cases import Case, Limits
from aigc_text.code_eval.sandbox.runner import run
from aigc_text.code_eval.sandbox.trial import START, _Trial

APART = "import os\n"  # what a program that shares an interpreter with its tests may not import
POINT = """
class Point:
    def __init__(self, x):
        self.x = x
    def __eq__(self, other):
        return isinstance(other, Point) and self.x == other.x
"""


def reporter(pipe):
    spec = importlib.util.spec_from_file_location("start", START)
    start = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(start)
    return start.reporter(pipe)


def test_a_verdict_does_not_depend_on_what_a_program_can_change(monkeypatch):
    read, write = os.pipe()
    report = reporter(write)
    monkeypatch.setattr(json.JSONEncoder, "encode", lambda *_: '["passed", ""]')
    monkeypatch.setattr(json, "dumps", lambda *_: '["passed", ""]')
    monkeypatch.setattr(os, "write", lambda pipe, data: len(data))
    report("abc", "failed", "wrong \ud800 é")
    monkeypatch.undo()
    assert os.read(read, 1000) == b"abc failed " + "wrong \\ud800 é".encode().hex().encode() + b"\n"


@pytest.mark.parametrize(
    "answer", ["{other} passed \n", "passed \n", '["passed", ""]\n', "{nonce} passed x\n", "é\n", ""]
)
def test_only_the_tests_process_can_report(answer):
    trial = _Trial(Case("", ""), Limits(), True, "/nowhere", threading.Event())
    trial.answer = answer.format(nonce=trial.nonce, other="0" * 32).encode()
    assert trial._answered()[0] == "gone"
    trial.answer = f"{trial.nonce} passed \n".encode()
    assert trial._answered() == ("passed", "")


@pytest.mark.parametrize("start", ["", APART])
@pytest.mark.parametrize(("body", "passes"), [("return x * x", True), ("raise SystemExit", False), ("return y", False)])
def test_an_error_that_ends_a_thread_of_the_tests_fails_them(start, body, passes):
    tests = """
import threading
def verify(x):
    assert f(x) == x * x
threads = [threading.Thread(target=verify, args=(n,)) for n in range(3)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
"""
    assert run(Case(f"{start}def f(x):\n    {body}\n", tests, "", ("f",))).passed is passes


@pytest.mark.parametrize(
    ("made", "passes"),
    [
        ("Point(x)", True),
        ("Point(Point(x + 1))", False),
        ("Point(x + 1)", False),
        ("Point(Liar())", False),
        ("Liar()", False),
        ("type('Point', (Liar,), {'x': 5})()", False),
    ],
)
def test_objects_of_the_problems_classes_are_compared_by_the_problem(made, passes):
    liar = "class Liar:\n    def __eq__(self, other):\n        return True\n"
    program = f"{APART}{POINT}{liar}def f(x):\n    return {made}\n"
    assert run(Case(program, "assert f(4) == Point(4)", POINT, ("f",))).passed is passes
