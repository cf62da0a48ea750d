"""Every way in which a plugin can be broken: nobody else is hurt, and whoever picks it is told what it is and a cure.

The plugins are real distributions in one folder on the path of a process of its own.
"""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from commands import listening

ROOT = Path(__file__).parents[2]
BASE = """
from aigc_text import Backend, Completion
class Plugin(Backend):
    takes = ("max_new_tokens", "num_return_sequences", "seed")
    @classmethod
    def from_pretrained(cls, model=None):
        return cls()
    def generate(self, prompts, options=None, **overrides):
        options = self.resolve(options, overrides)
        for i, prompt in enumerate(prompts):
            {body}
"""


def plugin(body='yield Completion(prompt=prompt, text="made of " + prompt, prompt_index=i)', before="", after=""):
    return f"{before}\n{BASE.format(body=body)}\n{after}"


NOISE = """
import os, subprocess, sys
print("NOISE of print"); sys.stdout.write("NOISE of write\\n"); os.write(1, b"NOISE of os.write\\n")
subprocess.run([sys.executable, "-S", "-c", "print('NOISE of a process')"])
import ctypes; ctypes.CDLL(None).puts(b"NOISE of C")
"""
# name: source of its module, what its error says
IMPORTED = {
    "imports-missing": (
        "import no_such_module_anywhere",
        "ModuleNotFoundError: No module named 'no_such_module_anywhere'",
    ),
    "syntax": ("def broken(:", "SyntaxError"),
    "classless": ("x = 1", "AttributeError"),
    "other-class": ("class Plugin: pass", "is not a subclass of aigc_text.Backend"),
    "takes-no-options": (
        plugin() + "    generate = lambda self, prompts: iter(())\n",
        "has a generate that cannot be called as Backend has it: too many positional arguments",
    ),
    "raises": ("raise ValueError('two\\nlines')", "ValueError: two lines"),
    "exits": ("import sys; sys.exit(0)", "SystemExit: 0"),
    "not-utf8": (b"x = '\xff\xfe'\n" + plugin().encode(), "SyntaxError"),
    "null-bytes": (b"x = 1\0\n", "null bytes"),
}
RUNNING = {
    "generate-raises": (plugin("raise ZeroDivisionError('by\\nzero')"), "failed: ZeroDivisionError: by zero"),
    "generate-exits": (plugin("import sys; sys.exit(0)"), "failed: SystemExit: 0"),
    "yields-text": (plugin("yield 'text'"), "gives 'text' where a Completion belongs"),
    "yields-none": (plugin("yield None"), "gives None where a Completion belongs"),
    "text-is-bytes": (plugin("yield Completion(prompt=prompt, text=b'x', prompt_index=i)"), "a text that is b'x'"),
    "tokens-are-text": (plugin("yield Completion(prompt=prompt, text='x', prompt_index=i, tokens='2')"), "tokens '2'"),
    "text-is-no-unicode": (plugin("yield Completion(prompt=prompt, text='\\udcff', prompt_index=i)"), "is no Unicode"),
    "elsewhere": (plugin("yield Completion(prompt=prompt, text='x', prompt_index=7)"), "which was not asked for"),
    "before-all": (plugin("yield Completion(prompt=prompt, text='x', prompt_index=-1)"), "prompt_index -1"),
    "nothing": (plugin("yield from ()"), "gave 0 texts of 1"),
    "no-iterator": (plugin("pass") + "    generate = lambda *_, **__: None\n", "gives None where Completions belong"),
    "no-instance": (
        plugin() + "    from_pretrained = classmethod(lambda cls, model=None: 'text')\n",
        "is loaded as 'text'",
    ),
    "load-raises": (
        plugin() + "    @classmethod\n    def from_pretrained(cls, model=None):\n        raise OSError('no model')\n",
        "failed: OSError: no model",
    ),
}
SOURCES = {
    **{name: source for name, (source, _) in {**IMPORTED, **RUNNING}.items()},
    "hangs": "import time; time.sleep(60)",
    "crashes": "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)",
    "noisy": plugin(before=NOISE),
    "noisy-at-loading": plugin().replace(
        "        return cls()", NOISE.replace("\n", "\n        ") + "\n        return cls()"
    ),
    "well": plugin(),
}


def install(folder, name, source, points=None, **files):
    """A distribution as pip leaves it: a module and a dist-info folder."""
    module = f"plugin_{name.replace('-', '_')}"
    (folder / f"{module}.py").write_bytes(source if isinstance(source, bytes) else source.encode())
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    points = f"[aigc_text.backends]\n{name} = {module}:Plugin\n" if points is None else points
    contents = {
        "METADATA": f"Metadata-Version: 2.1\nName: dist-{name}\nVersion: 1.0\n",
        "entry_points.txt": points,
        **files,
    }
    for file, content in contents.items():
        if content is not None:
            (info / file).write_bytes(content if isinstance(content, bytes) else content.encode())


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("plugins")
    for name, source in SOURCES.items():
        install(folder, name, source)
    group = "[aigc_text.backends]\n"
    install(folder, "malformed", plugin(), group + "malformed = not a module at all!\n")
    install(folder, "clashing", plugin(), group + "gpt2 = plugin_clashing:Plugin\nrnn = plugin_clashing:Plugin\n")
    install(folder, "points-not-utf8", plugin(), b"[aigc_text.backends]\n\xff = plugin_well:Plugin\n")
    install(folder, "others-not-utf8", plugin(), b"[console_scripts]\n\xff = plugin_well:Plugin\n")
    install(folder, "no-metadata", plugin(), METADATA=None)
    install(folder, "metadata-not-utf8", plugin(), METADATA=b"Name: \xff\xfe\n")
    return folder


@pytest.fixture(scope="module")
def call(folder):
    """Runs a command beside all of the plugins."""

    def called(*words, text=True, timeout=30, **environment):
        base = {k: v for k, v in os.environ.items() if k not in ("AIGC_TEXT_PLUGINS", "PYTHONWARNINGS")}
        env = {
            **base,
            "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]),
            "PYTHONIOENCODING": "utf-8",
            **environment,
        }
        command = [sys.executable, "-m", "aigc_text", *words]
        return subprocess.run(
            command, capture_output=True, text=text, timeout=timeout, env=env, stdin=subprocess.DEVNULL
        )

    return called


def test_a_list_imports_none_of_them_and_warns_once(call, folder):
    start = time.monotonic()
    listed = call("backends", PYTHONVERBOSE="1")
    assert listed.returncode == 0 and time.monotonic() - start < 30
    names = [line.split()[0] for line in listed.stdout.splitlines()]
    assert {*SOURCES, "malformed", "no-metadata", "metadata-not-utf8", "gpt2", "code"} <= set(names)
    assert "import 'plugin_" not in listed.stderr and "# code object from" in listed.stderr  # as -v would tell
    warned = [line for line in listed.stderr.splitlines() if line.startswith("Warning")]
    assert len(warned) == 1
    for part in (
        "'gpt2' of dist-clashing is left out: aigc-text has that name",
        "'rnn'",
        "entry_points.txt: 'utf-8' codec",
    ):
        assert part in warned[0]
    assert "others" not in warned[0]  # what is broken and no plugin is not ours to tell of
    assert "Traceback" not in listed.stderr


def test_the_rest_works_beside_them(call):
    made = call("generate", "--backend", "well", "--prompt", "x")
    assert (made.returncode, made.stdout) == (0, "xmade of x\n")
    assert call("backends", "check", "well").returncode == 2  # it is a poor backend, and is told so by the contract
    for name in ("no-metadata", "metadata-not-utf8"):
        assert call("generate", "--backend", name, "--prompt", "x").stdout == "xmade of x\n"
    shown = call("backends", "show", "gpt2", "--json")
    assert json.loads(shown.stdout)["name"] == "gpt2"
    assert json.loads(call("backends", "--json").stdout)[0]["distribution"] == "aigc-text"
    silenced = call("backends", AIGC_TEXT_PLUGINS="")
    assert silenced.returncode == 0 and silenced.stderr == "" and "well" not in silenced.stdout


def told(done):
    """The lines of an error, after the one warning that may be there."""
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert len([line for line in lines if line.startswith("Warning")]) <= 1
    return [line for line in lines if not line.startswith("Warning")]


@pytest.mark.parametrize("name", [*IMPORTED, *RUNNING])
def test_whoever_picks_a_broken_one_is_told_its_name_the_cause_and_a_cure(call, name):
    done = call("generate", "--backend", name, "--prompt", "x", "--seed", "1")
    assert done.returncode == 2, done
    error, cure = told(done)
    assert error.startswith("Error: backend ") and repr(name) in error
    assert {**IMPORTED, **RUNNING}[name][1] in error
    assert cure.endswith(f": pip uninstall dist-{name}") or cure.startswith("Tell its author")
    assert name in IMPORTED or done.stdout in ("", "x")  # at most the prompt


@pytest.mark.parametrize("name", RUNNING)
def test_a_file_of_records_tells_the_same(call, tmp_path, name):
    out = tmp_path / "texts.jsonl"
    done = call("generate", "--backend", name, "--prompt", "x", "--format", "jsonl", "--output", str(out))
    assert done.returncode == 2, done
    assert len([line for line in told(done) if line.startswith("Error: ")]) == 1
    assert not out.exists()


def test_an_entry_point_that_names_no_class_is_told_as_such(call):
    done = call("generate", "--backend", "malformed", "--prompt", "x")
    assert done.returncode == 2
    assert "its entry point 'not a module at all!' is not of the form module:Class" in told(done)[0]


@pytest.mark.parametrize("name", ["noisy", "noisy-at-loading"])
@pytest.mark.parametrize("form", ["text", "json", "jsonl"])
def test_noise_at_import_and_loading_stays_out_of_texts_and_records(call, form, name):
    done = call("generate", "--backend", name, "--prompt", "x", "--format", form, "--seed", "1")
    assert done.returncode == 0, done.stderr
    assert "NOISE" not in done.stdout
    assert sum("NOISE" in line for line in done.stderr.splitlines()) == 5  # nothing is lost
    if form == "text":
        assert done.stdout == "xmade of x\n"
    else:
        found = json.loads(done.stdout)
        assert (found if form == "jsonl" else found[0])["text"] == "made of x"
    if name == "noisy":
        shown = call("backends", "show", name, "--json")
        assert "well" not in json.loads(shown.stdout)["options"] and "NOISE" in shown.stderr


def test_a_crash_hurts_only_the_process_that_picked_it(call):
    assert call("generate", "--backend", "crashes", "--prompt", "x").returncode < 0
    assert call("generate", "--backend", "well", "--prompt", "x").returncode == 0


@pytest.mark.parametrize(("by", "code", "word"), [("SIGTERM", 143, "Terminated"), ("SIGINT", 130, "Interrupted")])
def test_a_hang_can_be_ended_like_anything_else(folder, by, code, word):
    import signal

    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(folder)]), "AIGC_TEXT_PLUGINS": "hangs"}
    command = [sys.executable, "-v", "-m", "aigc_text", "generate", "--backend", "hangs", "--prompt", "x"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, **pipes, text=True, env=env, preexec_fn=listening) as process:
        for line in process.stderr:  # -v tells when the plugin is about to run
            if "plugin_hangs" in line and ("code object" in line or "matches" in line):
                break
        time.sleep(0.3)
        process.send_signal(getattr(signal, by))
        rest = process.stderr.read()
        assert process.wait(timeout=30) == code
    assert word in rest.splitlines() and "Error" not in rest
