"""The public names: a list that changes on purpose only, and the names under which version 0.1 documented modules."""

import importlib
import re
import subprocess
import sys
from pathlib import Path

import pytest

import aigc_text
from aigc_text._moved import MOVED

ROOT = Path(__file__).parents[2]
PUBLIC = {
    "aigc_text": "Backend Capabilities Completion EvaluationOptions GenerationOptions Piece Progress Score TokenScore "
    "TrainingOptions TransformersBackend UserError evaluate from_scratch generate list_backends load register_backend "
    "train train_seeds",
    "aigc_text.backends": "Backend Capabilities TransformersBackend get_backend list_backends register_backend",
    "aigc_text.code_eval": "PassAtK Problem Syntax read_problems",
    "aigc_text.code_eval.sandbox": "Case Limits Verdict check_support run run_all",
    "aigc_text.data": "Pair Source split texts",
    "aigc_text.evaluation": "Evaluation EvaluationOptions Report Row System evaluate",
    "aigc_text.evaluation.model_metrics": "Likelihood Mauve ReferencePerplexity compare features",
    "aigc_text.generation": "Detokenizer Engine Event Row StopMatcher",
    "aigc_text.html_report": "Page build",
    "aigc_text.jobs": "Job",
    "aigc_text.memorization": "Copy Lengths Source WithoutCopies report",
    "aigc_text.metrics": "Bleu Distinct Lengths Novelty SacreBleu SelfBleu TextMetric Uniqueness Vocabulary",
    "aigc_text.models": "Code GAN GPT2 RNN Transformer VAE",
    "aigc_text.models.gan": "GAN GANConfig GANForCausalLM GANTraining",
    "aigc_text.models.rnn": "RNN RNNConfig RNNForCausalLM RNNTraining",
    "aigc_text.models.vae": "VAE VAEConfig VAEForCausalLM VAEOptions VAETraining",
    "aigc_text.options": "GenerationOptions Options TrainingOptions option",
    "aigc_text.runs": "RunFolder train train_seeds",
    "aigc_text.scoring": "Total total",
    "aigc_text.testing": "ContractError check_backend",
    "aigc_text.training": "Likelihood Objective Step Verdict train",
}
NEED_TORCH = ("aigc_text.models", "aigc_text.training")
#: Modules that are public as they are.
MODULES = ("aigc_text.errors", "aigc_text.outputs", "aigc_text.distributed", "aigc_text.api")


@pytest.mark.parametrize("package", PUBLIC)
def test_a_package_exports_its_names_and_no_others(package):
    if package.startswith(NEED_TORCH):
        pytest.importorskip("torch")
    module = importlib.import_module(package)
    assert sorted(module.__all__) == PUBLIC[package].split()
    for name in module.__all__:
        assert getattr(module, name) is not None
        assert name in dir(module)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = module.nothing


def test_every_package_with_public_names_is_listed():
    found = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in Path(aigc_text.__file__).parent.rglob("__init__.py")
        if "__all__" in path.read_text(encoding="utf-8")
    }
    assert found == set(PUBLIC)


def test_importing_a_package_loads_none_of_its_modules():
    code = "import sys; from aigc_text import metrics, models; print([m for m in sys.modules if m.count('.') > 1])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = [name for name in eval(done.stdout) if name.startswith(("aigc_text.metrics.", "aigc_text.models."))]
    assert loaded == []


def sources():
    """The texts that users copy from."""
    pages = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), ROOT / "scripts" / "finetune.py"]
    plugins = [*(ROOT / "plugins").glob("*/*.py"), *(ROOT / "aigc_text" / "backends" / "plugin_template").rglob("*.py")]
    return [*pages, *plugins]


@pytest.mark.parametrize("path", sources(), ids=lambda path: str(path.relative_to(ROOT)))
def test_users_are_shown_public_names_only(path):
    for module, names in re.findall(
        r"^ *from (aigc_text(?:\.[\w.]+)?) import ([\w, ]+)", path.read_text("utf-8"), re.MULTILINE
    ):
        for name in re.split(r", *", names.strip()):
            assert module in MODULES or name in PUBLIC[module].split(), f"from {module} import {name}"


@pytest.mark.parametrize("old", MOVED)
def test_a_module_that_has_moved_imports_under_its_old_name(old):
    if MOVED[old].startswith(NEED_TORCH):
        pytest.importorskip("torch")
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} is now {MOVED[old]}"):
        module = importlib.import_module(old)
    new = importlib.import_module(MOVED[old])
    names = getattr(new, "__all__", None) or [name for name in vars(new) if not name.startswith("_")]
    assert names
    assert all(getattr(module, name) is getattr(new, name) for name in names)
