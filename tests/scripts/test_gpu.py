"""`scripts/gpu.py` on the CPU, and `scripts/pack_gpu` without a network."""

import importlib.machinery
import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import tiny

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def gpu(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPTS / "benchmarks")
    monkeypatch.syspath_prepend(SCRIPTS)
    monkeypatch.setenv("ACCELERATE_USE_CPU", "true")  # the script sets it; taken back after the test
    import gpu

    return gpu


@pytest.fixture
def data(tmp_path):
    (tmp_path / "input.txt").write_text("\n".join(tiny.SENTENCES * 4), encoding="utf-8")
    return tmp_path / "input.txt"


def arguments(output, *more):
    return ["--device", "cpu", "--tiny", "--output", str(output), *map(str, more)]


def read(output):
    (one,) = json.loads((output / "gpu.json").read_text(encoding="utf-8")).values()
    return one["sections"]


@pytest.fixture
def quick(gpu, monkeypatch):
    """What a section calls and other tests try, made short."""
    check_gpu = sys.modules["check_gpu"]
    monkeypatch.setattr(check_gpu, "checked", lambda name, *_: (["fine"] * len(check_gpu.COLUMNS), []))
    monkeypatch.setattr(sys.modules["bench_train"], "made_up", lambda: tiny.SENTENCES * 60)


def test_sections_are_measured_on_the_cpu(gpu, quick, tmp_path):
    names = ["machine", "check", "generate", "gan"]
    assert gpu.main(arguments(tmp_path, *(word for name in names for word in ("--only", name)))) == 0
    found = read(tmp_path)
    assert {name: s["status"] for name, s in found.items()} == dict.fromkeys(names, "done")
    assert [row[0] for row in found["check"]["rows"]] == sys.modules["check_gpu"].trainable()
    assert [row["batch"] for row in found["generate"]["rows"]] == [1, 2]
    assert all(row["ours"] > 0 and row["theirs"] > 0 and row["bandwidth"] > 0 for row in found["generate"]["rows"])
    assert [row["loop"] for row in found["gan"]["rows"]] == ["ours, fp32", "ours, bf16", "plain, fp32"]
    assert found["gan"]["rows"][2]["ratio"] == 1  # the plain loop against itself
    page = (tmp_path / "gpu.md").read_text(encoding="utf-8")
    assert [line[4:] for line in page.splitlines() if line.startswith("### ")] == [
        gpu.SECTIONS[name].title for name in names
    ]


@pytest.mark.slow
def test_all_sections_are_measured_on_the_cpu(gpu, quick, data, tmp_path):
    out = tmp_path / "out"
    assert gpu.main(arguments(out, "--data", data)) == 0
    found = read(out)
    assert {name: s["status"] for name, s in found.items()} == dict.fromkeys(gpu.SECTIONS, "done")
    assert found["train"]["rows"][0]["mfu"] > 0
    assert [row["loop"] for row in found["vae"]["rows"]] == ["ours, fp32", "ours, bf16", "plain, fp32"]
    recipe = found["shakespeare"]
    assert (recipe["steps"], recipe["of_steps"], recipe["cut"]) == (6, 6, False) and recipe["nats"] > 0
    assert (out / "shakespeare" / "model.safetensors").exists()


def test_a_section_that_fails_stops_no_other_and_is_measured_again(gpu, tmp_path, monkeypatch, capsys):
    made = []

    def fake(name, error=None):
        def measure(given, record, clock):
            made.append(name)
            record["rows"] = []
            if error:
                raise error

        return gpu.Section(name, measure, lambda record: [f"rows: {len(record['rows'])}"], 10, 0)

    broken = {"machine": fake("machine"), "gan": fake("gan", ValueError("no such kernel")), "vae": fake("vae")}
    monkeypatch.setattr(gpu, "SECTIONS", broken)
    monkeypatch.setattr(sys, "excepthook", lambda *_: None)
    out = tmp_path / "out"
    assert gpu.main(arguments(out)) == 1
    assert made == ["machine", "gan", "vae"]
    failed = read(out)["gan"]
    assert (failed["status"], failed["message"], failed["rows"]) == ("failed", "ValueError: no such kernel", [])
    assert "failed: ValueError: no such kernel." in (out / "gpu.md").read_text()

    monkeypatch.setattr(gpu, "SECTIONS", {**broken, "gan": fake("gan")})
    assert gpu.main(arguments(out)) == 0
    assert made[3:] == ["gan"] and "vae: measured before" in capsys.readouterr().err
    page = (out / "gpu.md").read_text()
    assert "no such kernel" not in page and page.count(": done.") == 3
    assert read(out)["gan"]["command"].startswith("python scripts/gpu.py --device cpu --tiny --output ")
    assert gpu.main(arguments(out, "--again", "--only", "vae")) == 0
    assert made[4:] == ["vae"] and set(read(out)) == set(broken)


def test_sections_end_with_their_time_and_those_without_any_are_skipped(gpu, tmp_path, monkeypatch):
    def measure(given, record, clock):
        record["rows"] = ["first"]
        clock.end = 0
        clock.check()

    none = gpu.Section("none", measure, lambda record: [], 10, 0)
    monkeypatch.setattr(gpu, "SECTIONS", {"gan": none, "shakespeare": gpu.SECTIONS["shakespeare"]})
    assert gpu.main(arguments(tmp_path)) == 0
    found = read(tmp_path)
    assert (found["gan"]["status"], found["gan"]["rows"]) == ("cut short", ["first"])
    assert found["shakespeare"]["status"] == "skipped" and "--data" in found["shakespeare"]["message"]
    assert gpu.main(arguments(tmp_path / "late", "--budget", "-1")) == 0
    assert {s["message"] for s in read(tmp_path / "late").values()} == {"no time was left"}


def test_after_an_error_that_the_device_does_not_survive_a_new_process_goes_on(gpu, tmp_path, monkeypatch):
    def measure(given, record, clock):
        raise RuntimeError("an illegal memory access was encountered")

    lost = gpu.Section("lost", measure, lambda record: [], 10, 0)
    monkeypatch.setattr(gpu, "SECTIONS", {"check": lost, "gan": lost, "vae": lost})
    monkeypatch.setattr(gpu, "device_works", lambda device: False)
    monkeypatch.setattr(sys, "excepthook", lambda *_: None)
    ran = []
    monkeypatch.setattr(gpu.subprocess, "run", lambda command, check: ran.append(command))
    assert gpu.main(arguments(tmp_path, "--budget", "100", "--again")) == 1
    (command,) = ran
    again = gpu.arguments(command[2:])
    assert (again.only, again.again, again.tiny, again.device) == (["gan", "vae"], True, True, "cpu")
    assert again.output == tmp_path and 90 < again.budget <= 100


def test_the_time_limit_of_the_recipe_leaves_its_best_weights(gpu, data, tmp_path):
    recipe = sys.modules["gpu_recipe"]
    common = sys.modules["gpu_common"]

    class Ends(common.Clock):
        """Its time is up at the fifth report, after the validation at the third."""

        asked = 0

        def left(self):
            self.asked += 1
            return 1 if self.asked < 5 else -1

    record = {}
    recipe.shakespeare(common.Given("cpu", True, data, tmp_path), record, Ends(100))
    assert record["cut"] and (record["steps"], record["best_step"]) == (5, 3)
    assert "5 of 6, stopped by the time limit" in recipe.shakespeare_table(record)[-1]


@pytest.mark.parametrize("text", ["[1]", '{"a": 1}', "{"])
def test_a_foreign_results_file_is_left_alone(gpu, tmp_path, text, capsys):
    (tmp_path / "gpu.json").write_text(text)
    assert gpu.main(arguments(tmp_path)) == 2
    assert "is not what this script writes" in capsys.readouterr().err
    assert (tmp_path / "gpu.json").read_text() == text and not (tmp_path / "gpu.md").exists()
    assert gpu.main(arguments(tmp_path / "new", "--data", tmp_path / "none.txt")) == 2


def test_peaks_are_what_work_keeps_and_what_it_needs_beside_all_that_is_kept(gpu, monkeypatch):
    devices = sys.modules["devices"]
    memory = SimpleNamespace(now=100, most=100)
    monkeypatch.setattr(devices.torch.cuda, "synchronize", lambda *_: None)
    monkeypatch.setattr(devices.torch.cuda, "memory_allocated", lambda: memory.now)
    monkeypatch.setattr(devices.torch.cuda, "max_memory_allocated", lambda: memory.most)
    monkeypatch.setattr(devices.torch.cuda, "reset_peak_memory_stats", lambda: setattr(memory, "most", memory.now))

    def turn(name, kept, above):
        memory.now += kept
        memory.most = memory.now + above
        peaks.end(name)

    peaks = devices.Peaks("cuda")
    for name, kept, above in (("a", 10, 5), ("b", 20, 1), ("a", 0, 50), ("b", 0, 7)):
        turn(name, kept, above)
    assert peaks.most == {"a": 60, "b": 27}
    assert devices.Peaks("cpu").gib() is None


# pack_gpu


@pytest.fixture
def packer():
    loader = importlib.machinery.SourceFileLoader("pack_gpu", str(SCRIPTS / "pack_gpu"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("pack_gpu", loader))
    loader.exec_module(module)
    return module


class Index:
    """Wheels without code, in place of an index: `{"name": {"version": [requirements]}}`."""

    def __init__(self, folder, packages, padding=0):
        self.folder, self.packages, self.padding, self.asked = folder, packages, padding, []

    def __call__(self, requirement):
        from packaging.requirements import Requirement

        self.asked.append(requirement)
        one = Requirement(requirement)
        version = next(v for v in reversed(self.packages[one.name]) if v in one.specifier)
        wheel = self.folder / f"{one.name}-{version}-py3-none-any.whl"
        lines = [f"Requires-Dist: {r}" for r in self.packages[one.name][version]]
        with zipfile.ZipFile(wheel, "w") as archive:
            text = "\n".join(["Metadata-Version: 2.1", f"Name: {one.name}", f"Version: {version}", *lines])
            archive.writestr(f"{one.name}-{version}.dist-info/METADATA", text + "\n")
            archive.writestr("padding", b"x" * self.padding)
        return wheel


def test_what_wheels_require_is_packed_but_what_is_there_is_not(packer, tmp_path):
    packages = {
        "sets": {"4.0": ["dill<0.4", "numpy>=1", 'old; python_version < "3.11"', 'more; extra == "all"', "multi[x]"]},
        "multi": {"0.5": [], "1.0": ['crypto; extra == "x"', "dill>=0.2", "sets"]},
        "dill": {"0.3": [], "0.5": []},
        "crypto": {"2": []},
    }
    index = Index(tmp_path, packages)
    from packaging.requirements import Requirement

    there = packer.installed(["numpy==2.4.6", "-e git+somewhere", "Torch  # a comment"])
    assert there == {"numpy": "2.4.6", "torch": None}
    found = packer.missing([Requirement("sets>=4"), Requirement("torch>=2")], there, "3.12", index)
    assert set(found) == {"sets", "dill", "multi", "crypto"}
    assert found["dill"].name == "dill-0.3-py3-none-any.whl"
    # What is there is too old.
    index = Index(tmp_path, {"numpy": {"3.0": []}})
    found = packer.missing([Requirement("numpy>=3")], there, "3.12", index)
    assert index.asked == ["numpy>=3"] and set(found) == {"numpy"}


def test_a_wheel_that_a_later_requirement_excludes_is_fetched_again(packer, tmp_path):
    from packaging.requirements import Requirement

    index = Index(tmp_path, {"dill": {"0.3": [], "0.5": []}, "sets": {"4.0": ["dill<0.4"]}})
    found = packer.missing([Requirement("dill"), Requirement("sets")], {}, "3.12", index)
    assert [w.name.split("-py")[0] for w in found.values()] == ["sets-4.0", "dill-0.3"]
    assert sorted(p.name for p in tmp_path.glob("dill*")) == ["dill-0.3-py3-none-any.whl"]


@pytest.mark.skipif(sys.version_info < (3, 11), reason="pyproject.toml is read with tomllib")
def test_a_pack_is_complete_or_what_was_there_stays(packer, tmp_path, monkeypatch, capsys):
    names = ["datasets", "evaluate", "nltk"]
    packages = {name: {"9.0": []} for name in names}
    monkeypatch.setattr(packer, "download", lambda r, folder, python: Index(folder, packages, 2**21)(r))
    out = tmp_path / "pack"
    assert packer.main(["--output", str(out)]) == 0
    told = capsys.readouterr().out
    assert sorted(p.name.split("-")[0] for p in out.iterdir()) == names
    assert "--no-index --no-deps --find-links" in told and "datasets==9.0" in told

    packages["nltk"]["9.1"] = []
    assert packer.main(["--output", str(out), "--limit", "3"]) == 2
    assert "more than --limit 3" in capsys.readouterr().err
    assert (out / "nltk-9.0-py3-none-any.whl").exists() and sorted(p.name for p in tmp_path.iterdir()) == ["pack"]

    (out / "notes.txt").write_text("mine")
    assert packer.main(["--output", str(out)]) == 2 and (out / "notes.txt").exists()
    assert packer.main(["--output", str(tmp_path / "p"), "--extra", "fats"]) == 2
    assert "fast" in capsys.readouterr().err


def test_pip_is_asked_for_wheels_of_the_other_python(packer, tmp_path, monkeypatch):
    def run(command, **_):
        if "broken" not in command:
            (Path(command[command.index("--dest") + 1]) / "dill-0.3-py3-none-any.whl").touch()
        return SimpleNamespace(returncode=int("broken" in command), stderr="No matching distribution")

    monkeypatch.setattr(subprocess, "run", run)
    assert packer.download("dill<1", tmp_path, "3.12") == tmp_path / "dill-0.3-py3-none-any.whl"
    with pytest.raises(packer.Problem, match="no wheel of broken for Python 3.12: No matching distribution"):
        packer.download("broken", tmp_path, "3.12")
    with pytest.raises(packer.Problem, match="is no package"):
        packer.installed(["a b c"])
