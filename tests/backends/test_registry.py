"""Plugins: found without being imported, harmless when broken, and told apart when their names clash."""

import importlib
import sys
import warnings

import pytest

from aigc_text import Backend, TransformersBackend
from aigc_text.backends import builtin, plugin_import, registry
from aigc_text.backends.registry import get_backend, list_backends, register_backend
from aigc_text.errors import BackendError
from aigc_text.options.generation import GenerationOptions

GOOD = """
from aigc_text import Backend
class Good(Backend):
    @classmethod
    def from_pretrained(cls, model=None):
        return cls()
    def generate(self, prompts, options=None, **overrides):
        yield from ()
"""


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Puts a distribution with one module and its backends on the path, as pip would."""

    def installed(distribution, source, **backends):
        folder = tmp_path / distribution
        module = distribution.replace("-", "_")
        info = folder / f"{module}-1.0.dist-info"
        info.mkdir(parents=True)
        (folder / f"{module}.py").write_text(source)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
        points = "\n".join(f"{name} = {module}:{attribute}" for name, attribute in backends.items())
        (info / "entry_points.txt").write_text(f"[{builtin.GROUP}]\n{points}\n")
        monkeypatch.syspath_prepend(folder)
        importlib.invalidate_caches()
        forget.append(module)
        return module

    forget: list[str] = []
    yield installed
    for module in forget:
        sys.modules.pop(module, None)


@pytest.fixture(autouse=True)
def nothing_remembered(monkeypatch):
    monkeypatch.delenv(registry.PLUGINS, raising=False)
    monkeypatch.setattr(registry, "_registered", {})
    registry._warn_once.cache_clear()


def test_listing_names_a_plugin_without_importing_it(install):
    module = install("listed-plugin", GOOD, listed="Good")
    origin = list_backends()["listed"]
    assert (origin.distribution, origin.version, origin.capabilities) == ("listed-plugin", "1.0", None)
    assert module not in sys.modules
    assert issubclass(get_backend("listed"), Backend)
    assert module in sys.modules


@pytest.mark.parametrize(
    ("source", "cause"),
    [
        ("import no_such_module_at_all", "ModuleNotFoundError: No module named 'no_such_module_at_all'"),
        ("def broken(:", "SyntaxError"),
        ("import sys; sys.exit(3)", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise ValueError('two\\nlines')", "ValueError: two lines"),
        ("", "AttributeError"),
        ("class Backend: pass", "is not a subclass of aigc_text.Backend"),
        ("Backend = 5", "is not a subclass of aigc_text.Backend"),
        (GOOD + "\nclass Backend(Good):\n    capabilities = None", "capabilities that are no Capabilities: None"),
        (GOOD + "\nclass Backend(Good):\n    Options = dict", "not derived from GenerationOptions: <class 'dict'>"),
        (GOOD + "\nclass Backend(Good):\n    takes = 'seed'", "takes what is no option of it: 'seed'"),
        (GOOD + "\nclass Backend(Good):\n    takes = ('sed',)", "takes what is no option of it: ('sed',)"),
        (GOOD + "\nclass Backend(Good):\n    def from_pretrained(): pass", "a from_pretrained that cannot be called"),
        (GOOD + "\nclass Backend(Good):\n    def generate(self, prompts): pass", "a generate that cannot be called"),
    ],
)
def test_a_broken_plugin_hurts_only_whoever_picks_it(install, source, cause):
    install("broken-plugin", source, broken="Backend")
    assert {"gpt2", "code", "broken"} <= set(list_backends())
    assert get_backend("gpt2").__name__ == "GPT2"
    with pytest.raises(BackendError) as refused:
        get_backend("broken")
    assert "backend 'broken' of broken-plugin 1.0" in refused.value.message
    assert cause in refused.value.message
    cure = "Leave it out: AIGC_TEXT_PLUGINS= aigc-text backends, or for good: pip uninstall broken-plugin"
    assert refused.value.cure == cure
    assert len(str(refused.value).splitlines()) == 2


def _clashes():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(3):
            list_backends()
        for name in ("gpt2", "twice"):
            if name in list_backends():
                get_backend(name)
    return [str(w.message) for w in caught if "is left out" in str(w.message)]


def test_a_built_in_name_wins_a_clash_with_one_warning_that_names_both(install):
    install("greedy-plugin", GOOD, gpt2="Good")
    [told] = _clashes()
    assert "greedy-plugin" in told and "aigc-text" in told and "'gpt2'" in told
    assert list_backends()["gpt2"].distribution == "aigc-text"
    assert issubclass(get_backend("gpt2"), TransformersBackend)


def test_two_plugins_of_one_name_give_one_warning_that_names_both(install):
    install("second-plugin", GOOD, twice="Good")
    install("first-plugin", GOOD, twice="Good")
    [told] = _clashes()
    assert "first-plugin" in told and "second-plugin" in told and "'twice'" in told
    assert list_backends()["twice"].distribution == "first-plugin"  # by name, not by where it lies on the path


def test_a_list_allows_only_the_plugins_in_it(install, monkeypatch):
    install("some-plugin", GOOD, one="Good", two="Good", three="Good")
    monkeypatch.setenv(registry.PLUGINS, "one, three")
    assert set(list_backends()) == {*builtin.BUILT_IN, "one", "three"}
    with pytest.raises(BackendError, match="AIGC_TEXT_PLUGINS is set and may hide it"):
        get_backend("two")


def test_an_empty_list_allows_no_plugin_and_silences_a_clash(install, monkeypatch):
    install("some-plugin", GOOD, one="Good", gpt2="Good")
    monkeypatch.setenv(registry.PLUGINS, "")
    assert set(list_backends()) == set(builtin.BUILT_IN)
    assert _clashes() == []


def test_an_unknown_name_is_refused_with_the_nearest_and_all():
    with pytest.raises(BackendError) as refused:
        get_backend("gtp2")
    assert refused.value.message == "unknown backend 'gtp2'. Did you mean 'gpt2'?"
    assert "gpt2, code" in refused.value.cure and "FILE.py:CLASS" in refused.value.cure


class Registered(Backend):
    """A backend that is defined in Python."""

    @classmethod
    def from_pretrained(cls, model=None):
        return cls()

    def generate(self, prompts, options=None, **overrides):
        yield from ()


def test_a_registered_class_can_be_picked():
    register_backend("mine", Registered)
    assert get_backend("mine") is Registered
    assert list_backends()["mine"].distribution == "registered in Python"


def test_a_built_in_name_cannot_be_registered():
    with pytest.raises(BackendError, match="'gpt2' belongs to a built-in backend"):
        register_backend("gpt2", Registered)


@pytest.mark.parametrize("wrong", [object, int, "Registered", None])
def test_what_is_no_backend_cannot_be_registered(wrong):
    with pytest.raises(BackendError, match="'wrong' is not a subclass"):
        register_backend("wrong", wrong)
    assert "wrong" not in list_backends()


def test_a_class_in_a_file_can_be_picked(tmp_path):
    (tmp_path / "mine.py").write_text(GOOD)
    assert get_backend(f"{tmp_path}/mine.py:Good").__name__ == "Good"


@pytest.mark.parametrize(
    ("source", "attribute", "message"),
    [
        (GOOD, "Goot", "no class 'Goot'. Did you mean 'Good'?"),
        ("x = 1", "Good", "no class 'Good'."),
        (GOOD + "class Other: pass", "Other", "is not a subclass of aigc_text.Backend"),
        ("def f(:", "Good", "cannot be imported: SyntaxError"),
        ("raise SystemExit(1)", "Good", "cannot be imported: SystemExit: 1"),
        ("raise KeyboardInterrupt", "Good", "cannot be imported: KeyboardInterrupt"),
    ],
)
def test_a_bad_file_is_refused_in_two_lines(tmp_path, source, attribute, message):
    (tmp_path / "mine.py").write_text(source)
    with pytest.raises(BackendError) as refused:
        get_backend(f"{tmp_path}/mine.py:{attribute}")
    assert f"{tmp_path}/mine.py:{attribute}" in refused.value.message and message in refused.value.message
    assert refused.value.cure in ("Found: Good", "Found: none", "Mend the file.", "Derive it from aigc_text.Backend.")


def test_a_fault_in_a_file_whose_name_has_dots_is_its_own(tmp_path):
    (tmp_path / "my.plugin.py").write_text(GOOD.replace("yield from ()", "yield 1 / 0"))
    made = get_backend(f"{tmp_path}/my.plugin.py:Good").from_pretrained()
    with pytest.raises(ZeroDivisionError) as raised:
        next(made.generate([]))
    told = plugin_import.failed_plugin(raised.value)
    assert told is not None and "my.plugin.py:Good' failed: ZeroDivisionError" in told.message


@pytest.mark.parametrize("file", ["no/such.py", "~nobody-of-that-name/such.py", "x" * 300 + ".py"])
def test_a_missing_file_is_refused_with_the_form(file):
    with pytest.raises(BackendError) as refused:
        get_backend(f"{file}:Class")
    assert f"there is no file {file}" in refused.value.message
    assert refused.value.cure == "Write path/to/file.py:ClassName"


def test_the_table_of_built_in_backends_tells_what_their_classes_say():
    for name, (_, words, own) in builtin.BUILT_IN.items():
        backend = get_backend(name)
        assert list(words) == backend.capabilities.words()
        assert set(backend.accepted()) == {*GenerationOptions.fields(), *own}
