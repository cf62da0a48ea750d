"""Problems with tests, pass@k, and the command."""

import ast
import json
from itertools import combinations

import pytest

from aigc_text.code_eval import evaluation as code_evaluation
from aigc_text.code_eval.pass_at_k import PassAtK, Syntax, estimate
from aigc_text.code_eval.problems import read_problems
from aigc_text.code_eval.sandbox.runner import run
from aigc_text.errors import DataError, MetricError, OptionError
from aigc_text.generation.detokenizer import FUNCTION_END

ADD = {
    "task_id": "T/0",
    "prompt": 'import math\n\ndef twice(x): return 2 * x\n\ndef add(a: int, b: int) -> int:\n    """The sum."""\n',
    "entry_point": "add",
    "canonical_solution": "    return a + b\n",
    "test": "def check(candidate):\n    assert candidate(1, 2) == 3\n    assert twice(candidate(1, 1)) == 4\n",
}
UP = {
    "task_id": "T/1",
    "prompt": 'def up(x):\n    """One more."""\n',
    "entry_point": "up",
    "canonical_solution": "    return x + 1\n",
    "test": "def check(candidate):\n    assert candidate(1) == 2\n",
}
LARGEST = {
    "task_id": 7,
    "text": "Write a function to find the largest.",
    "code": "def largest(xs):\n    return max(xs)\n",
    "test_list": ["assert largest([1, 3]) == 3", "assert math.isclose(largest([0.1]), 0.1)"],
    "test_setup_code": "import math",
}


@pytest.fixture
def problems(tmp_path):
    return file(tmp_path, ADD, UP)


def file(folder, *records, name="problems.jsonl"):
    path = folder / name
    path.write_text("".join(json.dumps(r) + "\n" for r in records), encoding="utf-8")
    return path


def test_humaneval(problems):
    add, up = read_problems(problems)
    assert (add.task_id, add.names, add.solution) == ("T/0", ("add",), "    return a + b\n")
    assert "def twice" in add.given and "def add" not in add.given
    assert run(add.case(add.solution)).passed and run(up.case(up.solution)).passed
    assert run(add.case("    pass\n")).outcome == "failed"
    # A model that redefines the problem's helper changes nothing.
    assert not run(add.case("    return 0\ndef twice(x): return 4\n")).passed


def test_mbpp(tmp_path):
    [problem] = read_problems(file(tmp_path, LARGEST))
    assert problem.task_id == "7" and problem.whole and problem.names == ("largest",)
    assert problem.prompt.startswith('"""\nWrite a function to find the largest.\nassert largest([1, 3]) == 3')
    assert run(problem.case(problem.solution)).passed
    assert run(problem.case("def largest(xs):\n    return xs[0]\n")).outcome == "failed"
    [other] = read_problems(
        file(tmp_path, {**LARGEST, "prompt": "P", "text": None, "test_imports": ["import math"]} | {"text": "T"})
    )
    assert other.given == "import math"


@pytest.mark.parametrize("known", [True, False])
def test_mbpp_of_a_function_that_is_called_like_a_builtin_one(tmp_path, known):
    code = "def sum(a, b):\n    return len([n for n in range(1, a + 1) if a % n == b % n == 0])\n"
    tests = ["assert sum(10, 15) == 2", "assert sum(len([1]), 4) == 1"] if known else ["assert sum(10, 15) == 2"]
    [problem] = read_problems(file(tmp_path, {**LARGEST, "test_list": tests, "code": code if known else None}))
    assert problem.names == ("sum",)
    assert run(problem.case(code)).passed
    assert run(problem.case("def other(a, b): return 2")).outcome == "failed"


@pytest.mark.parametrize(
    "quoted", ['Count """ in a text.', 'Find """"four"""".', "A carriage\rreturn, \\n, \\ and \0001."]
)
def test_the_prompt_of_mbpp_says_what_the_task_says(tmp_path, quoted):
    line = 'assert g("""a """) == "a"'
    (problem,) = read_problems(file(tmp_path, {"task_id": 1, "text": quoted, "test_list": [line]}))
    assert ast.literal_eval(problem.prompt.strip()) == f"\n{quoted}\n{line}\n"
    assert run(problem.case("def g(text): return text.strip()")).passed


def test_mbpp_takes_modules_from_the_library(tmp_path):
    own = {"code": "queue = [1]\ndef g(x): return x"}
    lines = ["assert math.isclose(g(2), math.sqrt(4))", "assert math.pi"]
    records = [
        {"task_id": 1, "text": "a", "test_list": lines},
        {"task_id": 2, "text": "a", "test_list": ["assert copy(2) == copy.cached"]},
        {"task_id": 3, "text": "a", "test_list": ["queue.append(g(1))"], **own},
        {"task_id": 4, "text": "a", "test_list": ["queue.append(g(1))"]},
    ]
    library, *others = read_problems(file(tmp_path, *records))
    assert library.names == ("g",) and library.given == "import math\n"
    assert [p.names for p in others] == [("copy",), ("g", "queue"), ("g", "queue")]
    assert run(library.case("def g(x): return 2.0")).passed
    forged = "class math:\n    pi = 1\n    isclose = sqrt = lambda *given: True\n"
    assert not run(library.case(f"{forged}def g(x): return 3")).passed


def test_mbpp_whose_setup_needs_the_program(tmp_path):
    code = "class Node:\n    def __init__(self, n):\n        self.n, self.left = n, None\n"
    code += "def depth(node):\n    return 1 + depth(node.left) if node else 0\n"
    setup = "import math\nroot = Node(1)\nroot.left = Node(2)\nroot.left.left = Node(3)"
    record = {**LARGEST, "code": code, "test_setup_code": setup, "test_list": ["assert depth(root) == math.ceil(2.5)"]}
    [problem] = read_problems(file(tmp_path, record))
    assert problem.names == ("Node", "depth")
    assert run(problem.case(code)).passed
    assert run(problem.case(code + "def depth(node): return 2\n")).outcome == "failed"


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({k: v for k, v in ADD.items() if k != "test"}, ":2 has no field 'test'"),
        (
            {**ADD, "tast": "", "task_id": "x", "entry_point": 3},
            ":2: column 'entry_point' is not text but the number 3",
        ),
        ({**ADD, "entry_point": "a b"}, "entry_point 'a b' is no name"),
        ({**ADD, "entry_point": "class"}, "entry_point 'class' is no name"),
        ({**ADD, "test": "def check(candidate):\n  assert ("}, ":2: test is no Python at its line 2"),
        ({**ADD, "test": "assert add(1, 2) == 3"}, ":2: test defines no function 'check'"),
        ({**ADD, "task_id": "T/1"}, "has the task_id 'T/1' of an earlier problem"),
        ({**ADD, "task_id": None}, ":2: column 'task_id' is not text but null"),
        ({**ADD, "task_id": 1.5}, ":2: column 'task_id' is not text but the number 1.5"),
        ({k: v for k, v in ADD.items() if k != "task_id"}, ":2 has no field 'task_id'"),
        ({**LARGEST, "test_list": []}, ":2: test_list is empty"),
        ({**LARGEST, "test_list": "assert 1"}, ":2: 'test_list' is 'assert 1', but must be a list of texts"),
        ({**LARGEST, "test_list": [7]}, ":2: column 'test_list[0]' is not text but the number 7"),
        ({**LARGEST, "test_list": ["assert ("]}, ":2: test_list is no Python"),
        ({**LARGEST, "test_setup_code": "import ("}, ":2: test_setup_code is no Python"),
        ({k: v for k, v in LARGEST.items() if k != "text"}, ":2 has no field 'text'"),
    ],
)
def test_bad_problems(tmp_path, record, says):
    with pytest.raises(DataError) as error:
        read_problems(file(tmp_path, UP, record))
    assert says in str(error.value)


@pytest.mark.parametrize("prefix", ["deep = " + "+".join(["1"] * 3000) + "\n", "zero = '\0'\n", "deep = " + "(" * 300])
def test_a_prompt_that_the_parser_cannot_take_is_a_problem_all_the_same(tmp_path, prefix):
    [problem] = read_problems(file(tmp_path, {**UP, "prompt": prefix + UP["prompt"]}))
    assert problem.names == ("up",) and "def up" not in problem.given


def test_no_problem(tmp_path):
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="holds no problem"):
        read_problems(tmp_path / "empty.jsonl")


def test_the_estimate_is_unbiased():
    for n in range(1, 7):
        for c in range(n + 1):
            for k in range(1, n + 1):
                draws = list(combinations([1] * c + [0] * (n - c), k))
                assert estimate(n, c, k) == pytest.approx(sum(any(d) for d in draws) / len(draws))
    assert estimate(200, 1, 100) == pytest.approx(0.5)


def test_metrics(problems):
    add, up = read_problems(problems)
    texts = ["    return a + b", "    return a", "    return x + 1", "    return x +"]
    metric = PassAtK()
    found = metric.compute(predictions=texts, problems=[add, add, up, up], k=(1, 2), run_untrusted_code=True)
    assert found == {"pass@1": 0.5, "pass@2": 1.0}
    assert Syntax().compute(predictions=["x = 1", "x =", "\0", "(" * 5000]) == {"syntax": 0.25}
    with pytest.raises(MetricError, match="runs code that a model wrote"):
        metric.compute(predictions=texts, problems=[add, add, up, up])
    with pytest.raises(MetricError, match="2 completions of 1 problems"):
        metric.compute(predictions=texts[:2], problems=[add], run_untrusted_code=True)
    with pytest.raises(MetricError, match="with 1 completions"):
        metric.compute(predictions=texts[:1], problems=[add], k=(2,), run_untrusted_code=True)


def test_what_is_python_is_found_without_harm(recwarn):
    for code in ("a" + ".b" * 200_000, "x = [" + "1, " * 10_000 + "]"):  # the first ends Python 3.10
        assert code_evaluation.parses(code) in ((True, False) if ".b" in code else (True,))
    assert not code_evaluation.parses("x = [" + "1, " * 10_000)
    assert code_evaluation.parses(r"x = '\d'") and not list(recwarn)


def test_numbers_of_tries():
    assert code_evaluation.parse_ks("1,10,1", 10) == (1, 10)
    for text in ("0", "11", "a", ""):
        with pytest.raises(OptionError, match="k "):
            code_evaluation.parse_ks(text, 10)


# The command


def test_solutions_and_nothing(run, problems, tmp_path):
    done = run("evaluate-code", problems, "--samples", "solutions", "--run-untrusted-code", "--format", "json")
    assert done.code == 0, done.err
    assert json.loads(done.out) == {
        "problems": 2, "completions": 2, "syntax": 1.0, "pass@1": [1.0, 0.0], "outcomes": {"passed": 2},
    }  # fmt: skip
    nothing = file(
        tmp_path, *({"task_id": t, "completion": "    pass\n"} for t in ("T/0", "T/1")), name="nothing.jsonl"
    )
    out = tmp_path / "out.jsonl"
    done = run("evaluate-code", problems, "--samples", nothing, "--run-untrusted-code", "--output", out)
    assert "pass@1   0.000" in done.out and "failed 2" in done.out
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(r["task_id"], r["passed"], r["outcome"]) for r in records] == [
        ("T/0", False, "failed"),
        ("T/1", False, "failed"),
    ]
    assert run("evaluate-code", problems, "--samples", out, "--syntax-only").out.endswith("nothing was run\n")


def test_an_error_that_cannot_be_encoded(run, problems, tmp_path):
    samples = file(tmp_path, {"task_id": "T/1", "completion": "    raise ValueError('\\ud800')\n"}, name="s.jsonl")
    done = run("evaluate-code", problems, "--samples", samples, "--run-untrusted-code", "--output", tmp_path / "out")
    assert done.code == 0, done.err
    assert json.loads((tmp_path / "out").read_text())["why"] == "ValueError: \\ud800"


def test_a_model_writes(run, problems, tiny_gpt2, tmp_path):
    out = tmp_path / "out.jsonl"
    words = ["evaluate-code", problems, "--backend", "code", "--model", tiny_gpt2, "-n", 3, "--k", "1,3", "--seed", 5]
    words += ["--max-new-tokens", 12, "--temperature", 1, "--run-untrusted-code", "--output", out]
    done = run(*words)
    assert done.code == 0, done.err
    assert "6 completions of 2 problems" in done.out and "pass@3" in done.out
    records = [json.loads(line) for line in out.read_text().splitlines()]
    assert [(r["task_id"], r["index"]) for r in records] == [(t, n) for t in ("T/0", "T/1") for n in range(3)]
    assert not any(end in r["completion"] for r in records for end in FUNCTION_END)
    again = run(*words[:-2], "--output", tmp_path / "again.jsonl", "--workers", 4, "--batch-size", 2)
    assert again.out == done.out
    first, second = (
        [r["completion"] for r in map(json.loads, p.read_text().splitlines())] for p in (out, tmp_path / "again.jsonl")
    )
    assert first == second


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ([], ["this runs code that a model wrote", "--run-untrusted-code", "--syntax-only"]),
        (["--syntax-only", "--run-untrusted-code"], ["--syntax-only and --run-untrusted-code contradict each other"]),
        (["--run-untrusted-code", "--samples", "solutions", "--temperature", "1"], ["--temperature", "--samples"]),
        (["--run-untrusted-code", "--samples", "solutions", "--k", "2"], ["k '2' with 1 completions", "-n"]),
        (["--run-untrusted-code", "--samples", "missing.jsonl"], ["missing.jsonl"]),
        (["--run-untrusted-code", "--memory", "1", "--samples", "solutions"], ["memory cannot be 1"]),
        (["--run-untrusted-code", "-n", "2", "--k", "5"], ["k '5' with 2 completions"]),
        (["--syntax-only", "--samples", "solutions", "--batch-size", "2"], ["--batch-size", "--samples"]),
        (["--syntax-only", "--model", "not/needed", "--output", "no/such/out"], ["no/such/out.partial cannot be"]),
    ],
)
def test_refusals(refused, problems, words, says):
    refused("evaluate-code", problems, *words, says=says)


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ({"task_id": "T/9", "completion": ""}, ":1: there is no problem 'T/9'. Did you mean"),
        ({"task_id": "T/0"}, ":1 has no field 'completion'"),
        ({"completion": ""}, ":1 has no field 'task_id'"),
        ({"task_id": None, "completion": ""}, ":1: column 'task_id' is not text but null"),
        ({"task_id": "T/0", "completion": 3}, ":1: column 'completion' is not text but the number 3"),
    ],
)
def test_bad_completions(refused, problems, tmp_path, record, says):
    path = file(tmp_path, record, name="samples.jsonl")
    refused("evaluate-code", problems, "--samples", path, "--run-untrusted-code", says=[says])


def test_an_output_is_not_overwritten(refused, problems, tmp_path):
    out = file(tmp_path, {"mine": 1}, name="out.jsonl")
    refused(
        "evaluate-code",
        problems,
        "--samples",
        "solutions",
        "--run-untrusted-code",
        "--output",
        out,
        says=["exists already"],
    )
    assert json.loads(out.read_text()) == {"mine": 1}
