"""What a sandbox takes away from programs: time, memory, disk, threads; what it leaves behind, and old kernels."""

import os
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from aigc_text.code_eval.sandbox import runner as sandbox
from aigc_text.code_eval.sandbox import trial
from aigc_text.code_eval.sandbox.cases import Limits
from aigc_text.code_eval.sandbox.runner import check_support, run, run_all
from aigc_text.errors import OptionError
from tests.code_eval.test_sandbox import LIMITS, SMALL, WRITE, case


def test_limits_cannot_be_raised():
    assert run(case(LIMITS), SMALL).outcome == "failed"


LOWER = """
import resource, sys
from aigc_text.errors import OptionError
from aigc_text.code_eval.sandbox.runner import Case, check_support, run
resource.setrlimit(getattr(resource, sys.argv[1]), (int(sys.argv[2]), int(sys.argv[2])))
try:
    check_support()
except OptionError as error:
    print(error)
else:
    print(run(Case("def f(): return 1", "assert f() == 1", "", ("f",))).outcome)
"""


@pytest.mark.parametrize(
    ("limit", "value", "says"),
    [
        ("RLIMIT_NOFILE", 60, "passed"),
        ("RLIMIT_AS", 700_000 << 10, "passed"),
        ("RLIMIT_CPU", 3, "passed"),
        ("RLIMIT_AS", 8 << 20, "ulimit -H -v 8192"),
        ("RLIMIT_NOFILE", 5, "ulimit -H -n 5"),
    ],
)
def test_lower_limits_hold_or_are_named(limit, value, says):
    words = [sys.executable, "-c", LOWER, limit, str(value)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert says in done.stdout and "--run-unconfined" not in done.stdout, done.stdout + done.stderr


def test_too_little_memory_to_start_is_a_user_error(monkeypatch):
    def starved(case):
        raise MemoryError

    monkeypatch.setattr(sandbox, "run", starved)
    monkeypatch.setattr(sandbox, "_missing", sandbox._missing.__wrapped__)
    with pytest.raises(OptionError, match="MemoryError"):
        sandbox.check_support()


@pytest.mark.parametrize(
    ("body", "outcome"),
    [
        ("a = []\nwhile True: a.append(bytearray(1 << 24))", "memory"),
        ("return len(bytearray(1 << 31)) > 0", "memory"),
        ("n = 0\nwhile True:\n    n += 1\n    open(str(n), 'wb').write(bytes(1 << 20))", "disk"),
        (
            "import os\nheld = []\nfor _ in range(40):\n    held.append(open('f', 'wb'))\n    os.remove('f')\n"
            "    held[-1].write(bytes(1 << 19)); held[-1].flush()\nwhile True: pass",
            "disk",
        ),
        ("while True: print('x' * 1000)", "output"),
        ("while True: pass", "timeout"),
        (
            "import signal as s\nfor n in (s.SIGALRM, s.SIGXCPU, s.SIGTERM): s.signal(n, s.SIG_IGN)\nwhile True: pass",
            "timeout",
        ),
        ("import time\ntime.sleep(1000)", "timeout"),
        ("import os\nos._exit(0)", "ended"),
        ("import os, signal\nos.kill(os.getpid(), signal.SIGKILL)", "timeout"),
        ("import ctypes\nctypes.string_at(0)", "ended"),
        ("import os\nos.kill(os.getpid(), 40)", "ended"),
        ("import sys\nsys.exit(0)", "failed"),
        ("def deeper(): return deeper()\nreturn deeper()", "failed"),
    ],
)
def test_what_takes_too_much_is_ended(body, outcome):
    started = time.monotonic()
    verdict = run(case(body), Limits(seconds=1, memory=256, disk=4, printed=64))
    assert verdict.outcome == outcome, verdict
    assert time.monotonic() - started < 30


def test_threads_of_its_own_making_are_bounded():
    body = """
        import ctypes, time
        libc = ctypes.CDLL(None)
        libc.mmap.restype = ctypes.c_void_p
        stacks = libc.mmap(None, ctypes.c_size_t(2000 * 4096), 3, 0x22, -1, ctypes.c_long(0))
        made = 0
        for n in range(1, 2000):
            made += libc.clone(libc.pause, ctypes.c_void_p(stacks + n * 4096 - 64), 0x50F00, None) > 0
        time.sleep(0.2)
        return made > 1000
    """
    assert run(case(body), SMALL).outcome == "memory"
    assert run(case(body), SMALL, confined=False).outcome == "memory"


HIDDEN = {
    "in folders too deep for a path": """
        import os
        for _ in range(20):
            os.mkdir('a' * 250)
            os.chdir('a' * 250)
        for n in range(12):
            open(str(n), 'wb').write(bytes(1 << 20))
    """,
    "in more levels than a function can call itself": """
        import os
        for _ in range(1500):
            os.mkdir('a')
            os.chdir('a')
    """,
    "as names": """
        for n in range(3000):
            open(str(n), 'wb').close()
    """,
    "in a folder that moves all the time": """
        import os, threading
        os.mkdir('a')
        folder = os.open('a', os.O_RDONLY)
        def move():
            while True:
                os.rename('a', 'b')
                os.rename('b', 'a')
        threading.Thread(target=move, daemon=True).start()
        for n in range(12):
            file = os.open(str(n), os.O_CREAT | os.O_WRONLY, dir_fd=folder)
            os.write(file, bytes(1 << 20))
            os.close(file)
    """,
    "in removed files with a page of each in memory": """
        import ctypes, os
        libc = ctypes.CDLL(None)
        libc.mmap.restype = ctypes.c_void_p
        for _ in range(12):
            with open('f', 'w+b') as f:
                f.write(bytes(1 << 20))
                libc.mmap(None, ctypes.c_size_t(4096), 1, 2, f.fileno(), ctypes.c_long(0))
            os.remove('f')
    """,
    "in removed files that a thread holds whose process seems to have ended": """
        import ctypes, os, threading, time
        def fill():
            time.sleep(0.1)
            held = []
            for _ in range(12):
                held.append(open('f', 'wb'))
                os.remove('f')
                held[-1].write(bytes(1 << 20))
                held[-1].flush()
            time.sleep(60)
        threading.Thread(target=fill).start()
        ctypes.CDLL(None).syscall({'x86_64': 60, 'aarch64': 93}[os.uname().machine], 0)
    """,
    "in a folder without rights": """
        import os
        os.mkdir('a', 0o300)
        for n in range(12):
            open(f'a/{n}', 'wb').write(bytes(1 << 20))
    """,
}


@pytest.mark.parametrize("where", HIDDEN)
def test_what_is_written_cannot_be_hidden(where, monkeypatch, tmp_path):
    monkeypatch.setattr(sandbox.tempfile, "tempdir", str(tmp_path))
    body = textwrap.dedent(HIDDEN[where]) + "\nimport time\ntime.sleep(0.5)\nreturn True"
    verdict = run(case(body), SMALL)
    assert verdict.outcome == "disk", verdict
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_rights_is_removed(monkeypatch, tmp_path):
    monkeypatch.setattr(sandbox.tempfile, "tempdir", str(tmp_path))
    run(case("import os; os.makedirs('a/b'); os.umask(0o777); os.makedirs('c'); return True"), SMALL)
    assert list(tmp_path.iterdir()) == []


def test_files_that_come_and_go_are_no_harm():
    body = """
        import mmap, os, tempfile
        for _ in range(300):
            with tempfile.TemporaryDirectory() as folder:
                open(os.path.join(folder, 'a'), 'w').write('x')
        with tempfile.TemporaryFile() as file:
            file.write(bytes(1 << 20))
            file.flush()
            kept = mmap.mmap(file.fileno(), 0)
        return len(kept) == 1 << 20
    """
    verdict = run(case(body))
    assert verdict.passed, verdict


def test_threads_are_bounded():
    body = """
        import threading, time
        made = 0
        try:
            while made < 10_000:
                threading.Thread(target=time.sleep, args=(30,), daemon=True).start()
                made += 1
        except RuntimeError:
            pass
        return made >= 10_000
    """
    assert not run(case(body), SMALL).passed


def test_workers_change_no_verdict():
    bodies = ["return True", "return False", "raise KeyError(1)", "while True: pass", "import os; os._exit(1)", WRITE]
    cases = [case(body, PATH="/tmp/not-there/x") for body in bodies] * 3
    found = [[(v.outcome, v.why) for v in run_all(cases, Limits(seconds=1), workers=n)] for n in (1, 4)]
    assert found[0] == found[1]
    assert {o for o, _ in found[0]} == {"passed", "failed", "timeout", "ended"}


def test_nothing_is_left_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(sandbox.tempfile, "tempdir", str(tmp_path))  # other tests run programs at the same time
    descriptors = len(os.listdir("/proc/self/fd"))
    assert len(list(run_all([case("return True"), case("import os; os._exit(3)")] * 4, SMALL, workers=4))) == 8
    assert list(tmp_path.iterdir()) == []
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_nothing_outlives_the_watcher(tmp_path):
    script = (
        "import sys\nfrom aigc_text.code_eval.sandbox.runner import Case, Limits, run\n"
        "run(Case('import os, time\\ntime.sleep(1000)', ''), Limits(seconds=100))"
    )
    watcher = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, "TMPDIR": str(tmp_path)})
    children = Path(f"/proc/{watcher.pid}/task/{watcher.pid}/children")
    for _ in range(200):
        time.sleep(0.05)
        if len(found := children.read_text().split()) == 2:
            break
    time.sleep(0.3)
    watcher.kill()
    watcher.wait()
    time.sleep(0.3)
    assert len(found) == 2
    assert not any(b"start.py" in _command(number) for number in found)


def _command(number: str) -> bytes:
    try:
        return Path(f"/proc/{number}/cmdline").read_bytes()
    except OSError:
        return b""


WITHOUT_LANDLOCK = """
import ctypes, errno, sys
sys.path.insert(0, {folder!r})
from seccomp import install, call, COLUMN
libc = ctypes.CDLL(None, use_errno=True)
call(libc.prctl(38, 1, 0, 0, 0), "no_new_privs")
install(libc, [(0x20, 0, 0, 0), (0x15, 0, 1, 444), (6, 0, 0, 0x50000 | errno.ENOSYS), (6, 0, 0, 0x7fff0000)])
sys.path.pop(0)
from aigc_text.errors import OptionError
from aigc_text.code_eval.sandbox.runner import Case, check_support, run
try:
    check_support()
except OptionError as error:
    print(error)
try:
    run(Case("def f(): return 1", "assert f() == 1", "", ("f",)))
except OptionError as error:
    print(error)
print(run(Case("def f(): return 1", "assert f() == 1", "", ("f",)), confined=False).outcome)
"""


def test_a_kernel_without_landlock_is_refused():
    check_support()  # this one has it
    script = WITHOUT_LANDLOCK.format(folder=str(trial.START.parent))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    first, cure, second, _, unconfined = done.stdout.splitlines()
    assert "Landlock is missing" in first and first == second
    assert "--run-unconfined" in cure
    assert unconfined == "passed"


FIRST_LANDLOCK = """
import os, sys
path, scratch, folder = sys.argv[1:]
sys.path.insert(0, folder)
import lock
lock.landlock_version = lambda libc: 1
lock.confine(scratch)
for flags in (3 | os.O_TRUNC, os.O_TRUNC):
    try:
        os.open(path, flags)
    except PermissionError:
        pass
print(os.stat(path).st_size)
"""


def test_the_first_landlock_lets_no_file_be_cut(tmp_path):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "scratch").mkdir()
    words = [str(tmp_path / "file"), str(tmp_path / "scratch"), str(trial.START.parent)]
    done = subprocess.run([sys.executable, "-c", FIRST_LANDLOCK, *words], capture_output=True, text=True, check=True)
    assert done.stdout == "4\n" and (tmp_path / "file").read_text() == "kept"


def test_limits_are_checked():
    with pytest.raises(OptionError, match="memory cannot be 1"):
        Limits(memory=1)
