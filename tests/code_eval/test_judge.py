"""The verdict: found outside of the program, as one process would find it, and not the program's to say."""

import textwrap

import pytest

from aigc_text.code_eval.sandbox.cases import Case, Limits
from aigc_text.code_eval.sandbox.runner import run
from tests.code_eval.test_sandbox import SMALL, case

# The verdict cannot be forged

FORGERIES = {
    "prints it": "print('passed'); print('[\"passed\", \"\"]'); return 0",
    "exits well": "import sys; sys.exit(0)",
    "writes to every pipe": """
        import os
        for n in range(64):
            try:
                os.write(n, b'["passed", ""]\\n')
            except OSError:
                pass
        return 0
    """,
    "answers for its interpreter": """
        import os
        for n in range(3, 64):
            try:
                os.write(n, b'{"result": ["int", "1"], "args": []}\\n' * 3)
            except OSError:
                pass
        os._exit(0)
    """,
    "is equal to everything": """
        class Any(int):
            def __eq__(self, other): return True
            def __ne__(self, other): return False
            def __hash__(self): return 0
        return Any(0)
    """,
    "is an object equal to everything": """
        class Any:
            def __eq__(self, other): return True
            def __ne__(self, other): return False
        return Any()
    """,
    "replaces what compares": """
        import builtins, operator, sys
        builtins.AssertionError = Exception
        builtins.abs = builtins.isinstance = lambda *a: 1
        operator.eq = lambda a, b: True
        sys.settrace(lambda *a: None)
        return 0
    """,
    "looks for the tests in its frames": """
        import gc, sys
        words = 'words of the ' + 'tests'
        frame = sys._getframe()
        while frame:
            for value in list(frame.f_locals.values()):
                if isinstance(value, str) and words in value and value != words:
                    return 1
            frame = frame.f_back
        texts = [v for o in gc.get_objects() if isinstance(o, dict) for v in o.values() if isinstance(v, str)]
        return 1 if any(words in text and text != words for text in texts) else 0
    """,
}


@pytest.mark.parametrize("how", FORGERIES)
def test_the_verdict_is_not_the_programs_to_say(how):
    tests = "def check(candidate):\n    assert not candidate() != 1\n    assert candidate() == 1\n"
    tests += "check(attack)  # words of the tests"
    assert not run(case(FORGERIES[how], tests), SMALL).passed
    assert run(case("return 1", tests), SMALL).passed


@pytest.mark.parametrize(
    "body",
    [
        "import os; os._exit(0)",
        "import sys; sys.modules['channel'].Channel.send = lambda self, message: os.write(self.write_to, b'[]\\n')\n"
        "import os; return 0",
    ],
)
def test_a_test_that_catches_everything_is_not_passed_by_leaving(body):
    tests = "try:\n    attack()\n    raise SystemExit\nexcept:  # it is to raise an error\n    pass"
    assert run(case("raise ValueError", tests), SMALL).passed
    assert run(case(body, tests), SMALL).outcome == "ended"


def test_an_answer_too_large_for_the_tests_is_too_much_memory():
    body = """
        import os, sys
        def send(self, message):
            line = b'{"result": ["list", [' + b'[],' * (1 << 22) + b'[]]], "args": []}\\n'
            while line:
                line = line[os.write(self.write_to, line):]
        sys.modules['channel'].Channel.send = send
    """
    verdict = run(case(body), Limits(seconds=10, memory=256))
    assert verdict.outcome == "memory", verdict


def test_the_program_is_compiled_as_it_stands():
    assert run(Case("def f(x: List[int]): return x", "assert f(1) == 1", "", ("f",))).outcome == "error"
    assert run(Case("def f(x: int): return x", "assert f.__annotations__ == {}", "", ("f",))).outcome == "failed"
    program = "import functools\n@functools.singledispatch\ndef f(x): return 0\n@f.register\ndef _(x: int): return 1"
    assert run(Case(program, "assert f('') == 0 and f(1) == 1", "", ("f",))).passed
    assert run(Case("", "def g(x: List): pass")).outcome == "failed"


def test_helpers_of_the_problem_are_not_the_programs_to_replace():
    program = "import math\nmath.isclose = lambda *a: True\ndef near(a, b): return True\ndef attack(): return 3"
    given = "import math\ndef near(a, b): return math.isclose(a, b)"
    assert (
        run(Case(program, "assert near(attack(), 4) or math.isclose(attack(), 4)", given, ("attack",))).outcome
        == "failed"
    )
    assert run(Case(program, "assert near(attack(), 3)", given, ("attack",))).passed


def test_an_object_does_not_say_what_is_in_it():
    body = "class Bag:\n    def __contains__(self, x): return True\n    def __iter__(self): return iter([1, 2])\n"
    body += "return Bag()"
    assert run(case(body, "assert 2 in attack()")).passed
    assert run(case(body, "assert 3 in attack()")).outcome == "failed"


# Values on their way


@pytest.mark.parametrize(
    "tests",
    [
        "v = [1, -2.5, 'é\\ud800', None, True, (1, {2: {3}}), b'x', 1j, float('inf'), 10**400, frozenset({4})]\n"
        "v.append(range(3))\n"
        "assert same(v) == v and [type(x) for x in same(v)] == [type(x) for x in v]",
        "from decimal import Decimal; from fractions import Fraction\n"
        "assert same(Decimal('1.10')) == Decimal('1.10') and same(Fraction(1, 3)) == Fraction(1, 3)",
        "a = [1]; grow(a); assert a == [1, 0]\nd = {'k': 1}; grow(d); assert d == {'k': 1, 0: 0}\n"
        "grow(x=a); assert a == [1, 0, 0]",
        "assert list(count(3)) == [0, 1, 2] and next(count(1)) == 0",
        "p = Point(1, y=2); assert p.x == 1 and p.y == 2 and p.moved(1).x == 2 and Point(1, 2) == Point(1, 2)\n"
        "assert str(p) == '(1, 2)' and sum_x([Point(1, 0), Point(5, 0)]) == 6",
        "try:\n    bad()\nexcept ValueError as e:\n    assert 'no good' in str(e)\nelse:\n    assert False",
        "try: own()\nexcept Exception as e: assert type(e).__name__ + str(e) == 'Minemine'\nelse: assert False",
        "assert Limit == 7 and counted('abca') == {'a': 2, 'b': 1, 'c': 1}",
    ],
)
def test_tests_see_what_they_would_see_in_one_process(tests):
    program = textwrap.dedent("""
        import collections
        Limit = 7
        def same(x): return x
        def grow(x): x.append(0) if isinstance(x, list) else x.update({0: 0})
        def count(n): yield from range(n)
        class Point:
            def __init__(self, x, y): self.x, self.y = x, y
            def moved(self, by): return Point(self.x + by, self.y)
            def __eq__(self, other): return (self.x, self.y) == (other.x, other.y)
            def __str__(self): return f"({self.x}, {self.y})"
        def sum_x(points): return sum(p.x for p in points)
        def bad(): raise ValueError("no good")
        class Mine(Exception): pass
        def own(): raise Mine("mine")
        def counted(text): return collections.Counter(text)
    """)
    names = ("same", "grow", "count", "Point", "sum_x", "bad", "own", "counted", "Limit")
    verdict = run(Case(program, tests, "", names))
    assert verdict.passed, verdict


def test_reasons():
    assert run(case("return 2", "assert attack() == 1, 'wrong sum'")).why == "a test failed: wrong sum"
    assert run(case("return [][1]", "attack()")).why == "IndexError: list index out of range"
    assert run(Case("def f(:", "", "", ())).outcome == "error"
    assert "the program defines no 'other'" in run(case("return 1", "", ("other",))).why
