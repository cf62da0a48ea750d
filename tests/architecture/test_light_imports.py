"""Importing the package, printing help and listing backends stay light; seen in sys.modules, not on a clock."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = ["torch", "transformers", "datasets", "accelerate", "evaluate", "matplotlib", "pandas", "pyarrow"]

SCRIPT = """
import contextlib, io, json, sys
import aigc_text, aigc_text.cli, aigc_text.backends.registry

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
aigc_text.backends.registry.list_backends()
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


TEXTS = "predictions=['A dog sleeps (on a bed).', 'A cat.'], references=['A dog sits.', \"It isn't a cat.\"]"
COMPUTED = {  # module: what to compute with its classes, on plain lists
    "metrics.bleu": f"Bleu().compute({TEXTS})",
    "metrics.self_bleu": f"SelfBleu().compute({TEXTS})",
    "metrics.distinct": f"Distinct().compute({TEXTS})",
    "metrics.uniqueness": f"Uniqueness().compute({TEXTS})",
    "metrics.novelty": f"Novelty().compute({TEXTS})",
    "metrics.lengths": f"Lengths().compute({TEXTS})",
    "metrics.vocabulary": f"Vocabulary().compute({TEXTS})",
    "metrics.sacrebleu": f"SacreBleu().compute({TEXTS})",
    "code_eval.pass_at_k": "Syntax().compute(predictions=['x = 1'])",
    "metrics.tokenization": "all_words(['A dog (on a bed).'])",
    "metrics.ngrams": "list(ngrams([['a', 'dog']], 2))",
    # These need a model to compute with; importing them does not.
    "evaluation.model_metrics.mauve": "demand_texts(20, 20)",
    "evaluation.model_metrics.likelihood": "Likelihood()",
    "evaluation.model_metrics.reference_perplexity": "ReferencePerplexity()",
}


@pytest.mark.parametrize("module", COMPUTED)
def test_a_metric_on_plain_lists_loads_nothing_heavy(module):
    code = f"import sys; from aigc_text.{module} import *; {COMPUTED[module]}"
    code += f"; print([name for name in {HEAVY} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_every_metric_is_held_to_that():
    import aigc_text.metrics

    names = {f"metrics.{path.stem}" for path in Path(aigc_text.metrics.__file__).parent.glob("*.py")}
    tried = {name for name in COMPUTED if name.startswith("metrics.")}
    assert names - {"metrics.__init__", "metrics.base", "metrics.hf_evaluate"} == tried


def test_a_page_of_texts_loads_nothing_heavy(tmp_path):
    for name in ("one", "two"):
        lines = [json.dumps({"text": f"A dog (number {n}) can't sleep on a bed...", "prompt": ""}) for n in range(20)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    code = (
        "import sys; from aigc_text.cli import main\ntry:\n    main()\nexcept SystemExit as end:\n    code = end.code\n"
    )
    code += f"print([code] + [name for name in {HEAVY} if name in sys.modules])"
    words = ["report", "one.jsonl", "two.jsonl", "--output", "page.html"]
    done = subprocess.run(
        [sys.executable, "-c", code, *words], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == "[0]\n", done.stderr
