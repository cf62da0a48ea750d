"""The code backend: where a completion ends, and filling in the middle."""

import pytest
import tiny

from aigc_text import load
from aigc_text.data.tokenizer_training import INFILLING
from aigc_text.errors import OptionError
from aigc_text.generation.detokenizer import FUNCTION_END
from aigc_text.models.causal_lm import inside_function


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return load("code", str(tiny.save("gpt2", tmp_path_factory.mktemp("code") / "m")))


@pytest.mark.parametrize(
    ("prompt", "inside"),
    [
        ("def f(x):\n", True),
        ("import os\n\n\ndef f(x):\n    '''Doc.'''\n", True),
        ("async def f(x):", True),
        ("class A:\n    def f(self):\n", True),
        ("def f(\n    x,\n):\n", True),
        ("@cache\ndef f(x):\n    # a comment\n", True),
        ("import os\n", False),
        ("def f(x):\n    return x\n\nprint(f(1))\n", False),
        ("define = 1", False),
        ("", False),
    ],
)
def test_a_prompt_inside_a_function_is_recognised(prompt, inside):
    assert inside_function(prompt) is inside


def test_stop_rules_apply_inside_functions_unless_switched_off(plain):
    options = plain.resolve(None, {"stop_strings": ("X",)})
    assert plain.stop_strings("def f():\n", options) == ("X", *FUNCTION_END)
    assert plain.stop_strings("x = ", options) == ("X",)
    off = plain.resolve(options, {"stop_at_function_end": False})
    assert plain.stop_strings("def f():\n", off) == ("X",)


@pytest.mark.parametrize("names", INFILLING, ids=lambda n: n[0])
def test_a_suffix_is_put_where_the_model_was_trained_to_find_it(names, tmp_path):
    backend = load("code", str(tiny.save("gpt2", tmp_path / "m", special=names)))
    ids = backend.prompt_tokens("def f(a):\n", backend.resolve(None, {"suffix": "    return b\n"}))
    assert backend.tokenizer.decode(ids) == f"{names[0]}def f(a):\n{names[1]}    return b\n{names[2]}"
    [made] = backend.generate(["def f(a):\n"], suffix="    return b\n", max_new_tokens=5, seed=1)
    assert made.prompt == "def f(a):\n" and not any(n in made.text for n in names)


def test_a_suffix_without_the_tokens_for_it_is_refused(plain):
    with pytest.raises(OptionError, match="no tokens to fill in the middle"):
        list(plain.generate(["def f():"], suffix="return"))


def test_a_suffix_is_no_option_of_prose(tmp_path):
    backend = load("gpt2", str(tiny.save("gpt2", tmp_path / "m")))
    with pytest.raises(OptionError, match="no option 'suffix'") as caught:
        list(backend.generate(["a"], suffix="b"))
    assert "suffix is an option of: code" in caught.value.cure
