"""Programs that a model might write to get out, and one that does no harm."""

import os
import socket
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from aigc_text import sandbox
from aigc_text.errors import OptionError
from aigc_text.sandbox import Case, Limits, check_support, run, run_all

SMALL = Limits(seconds=2, memory=256, disk=4, printed=64)


def case(
    body: str, tests: str = "assert attack() is True", names=("attack",), given: str = "", **values: object
) -> Case:
    """`attack()` has this body; `NAME` in it is the value given."""
    for name, value in values.items():
        body = body.replace(name, repr(value))
    return Case("def attack():\n" + textwrap.indent(textwrap.dedent(body).strip(), "    "), tests, given, names)


# An attack answers True if it got what it wanted; so the sandbox has failed where one passes.

READ = "return 'the secret' in open(PATH).read()"
WRITE = "open(PATH, 'w').write('x'); return True"
CONNECT = """
import socket
socket.create_connection(('127.0.0.1', PORT), 2).sendall(b'x')
return True
"""
DATAGRAM = """
import socket
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('127.0.0.1', PORT))
return True
"""
SHELL = """
import subprocess
return subprocess.run(['/bin/sh', '-c', 'echo yes'], capture_output=True).stdout == b'yes\\n'
"""
SYSTEM = "import os; return os.system('touch ' + PATH) == 0"
FORK = "import os; pid = os.fork(); os._exit(0) if pid == 0 else os.waitpid(pid, 0); return True"
FORK_BOMB = """
import os
made = 0
for _ in range(50):
    try:
        pid = os.fork()
    except OSError:
        continue
    if pid == 0:
        import time; time.sleep(30); os._exit(0)
    made += 1
return made > 0
"""
CTYPES_FORK = """
import ctypes
libc = ctypes.CDLL(None)
pid = libc.fork()
if pid == 0:
    libc._exit(0)
return pid > 0
"""
RAW_CLONE = """
import ctypes, platform
number = {'x86_64': 56, 'aarch64': 220}[platform.machine()]
pid = ctypes.CDLL(None).syscall(number, 17, 0, 0, 0, 0)  # SIGCHLD and no flag of threads
if pid == 0:
    ctypes.CDLL(None)._exit(0)
return pid > 0
"""
DAEMON = """
import os, time
if os.fork():
    return True
os.setsid()
if os.fork():
    os._exit(0)
while True:
    open(PATH, 'a').write('alive')
    time.sleep(0.05)
"""
SIGNAL = "import os, signal; os.kill(PID, signal.SIGTERM); return True"
SIGNAL_BY_FILE = """
import fcntl, os, signal, socket
a, b = socket.socketpair()
fcntl.fcntl(a, fcntl.F_SETOWN, PID)
fcntl.fcntl(a, 10, signal.SIGTERM)
fcntl.fcntl(a, fcntl.F_SETFL, os.O_ASYNC)
b.send(b'x')
return True
"""
# Not what could be done with it here, but what some kernels would let it do; so none of these may succeed at all.
CUT = """
import os
open('f', 'w').write('kept')
os.close(os.open('f', os.O_RDONLY | os.O_TRUNC))
return True
"""
OPEN_FOR_NOTHING = "import os; os.open(PATH, os.O_ACCMODE); return True"
OWN_DESCRIPTORS = "import ctypes; return ctypes.CDLL(None).syscall(436, 1000, 1001, 2) == 0"
THREAD_WITH_OWN_DESCRIPTORS = """
import ctypes
libc, stack = ctypes.CDLL(None), ctypes.create_string_buffer(1 << 16)
top = ctypes.c_void_p(ctypes.addressof(stack) + (1 << 16) - 64 & -16)
return libc.clone(libc.pause, top, 0x100 | 0x200 | 0x800 | 0x10000 | 0x40000, None) > 0
"""
OTHER_SOCKETS = """
import ctypes, errno
libc = ctypes.CDLL(None, use_errno=True)
libc.socketpair(30, 1, 0, (ctypes.c_int * 2)())  # AF_TIPC
return ctypes.get_errno() != errno.EPERM
"""
SEND_TO_OTHERS = """
import ctypes, errno, socket
libc, (a, b) = ctypes.CDLL(None, use_errno=True), socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
name = ctypes.create_string_buffer(b'\\x01\\x00' + PATH.encode())
libc.sendto(a.fileno(), b'x', 1, 0, name, len(name))
return ctypes.get_errno() != errno.EPERM
"""
LIMITS = """
import resource
resource.setrlimit(resource.RLIMIT_CPU, (1000, 1000))
resource.setrlimit(resource.RLIMIT_AS, (1 << 40, 1 << 40))
return True
"""
PTRACE = """
import ctypes
return ctypes.CDLL(None).ptrace(16, PID, 0, 0) == 0
"""
CHMOD = "import os; os.chmod(PATH, 0o777); return True"
LINK = "import os; os.symlink(PATH, 'link'); return 'the secret' in open('link').read()"
HARD_LINK = "import os; os.link(PATH, 'link'); return 'the secret' in open('link').read()"
ENVIRONMENT = "import os; return any('the secret' in v for v in os.environ.values())"
OWN_ENVIRONMENT = "return b'the secret' in open('/proc/self/environ', 'rb').read()"
PARENTS_ENVIRONMENT = """
import os
return b'the secret' in open(f'/proc/{os.getppid()}/environ', 'rb').read()
"""
OTHERS_ENVIRONMENT = "return b'the secret' in open(f'/proc/{PID}/environ', 'rb').read()"


@pytest.fixture
def victim():
    """Another process, which has a secret in its environment."""
    process = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(60)"], env={**os.environ, "TOKEN": "the secret"}
    )
    yield process
    process.kill()
    process.wait()


@pytest.fixture
def listener():
    """A port where somebody listens; what came is counted."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        came = []

        def accept():
            while True:
                try:
                    connection, _ = server.accept()
                except OSError:
                    return
                came.append(connection.recv(1))
                connection.close()

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield server.getsockname()[1], came


def test_a_benign_program_passes():
    program = """
        import collections, json, math, os, random, tempfile, threading
        with tempfile.NamedTemporaryFile('w+') as f:
            f.write('kept'); f.seek(0); read = f.read()
        found = []
        thread = threading.Thread(target=lambda: found.append(1)); thread.start(); thread.join()
        os.mkdir('folder'); open('folder/a', 'w').write('x'); os.remove('folder/a'); os.rmdir('folder')
        print('a word')
        return read == 'kept' and found == [1] and math.isclose(sum([0.1] * 10), 1) and random.random() < 1
    """
    verdict = run(case(program))
    assert verdict.outcome == "passed", verdict


@pytest.mark.parametrize(
    "body",
    [
        "import asyncio\nasync def main(): return await asyncio.to_thread(lambda: True)\nreturn asyncio.run(main())",
        "try:\n    exit()\nexcept SystemExit:\n    return True",
        "import sqlite3; return sqlite3.connect('f').execute('select 1').fetchone() == (1,)",
    ],
)
def test_what_else_does_no_harm(body):
    verdict = run(case(body))
    assert verdict.passed, verdict


@pytest.mark.parametrize("body", [READ, LINK, HARD_LINK])
def test_no_reading_of_a_secret(body, tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("the secret")
    assert run(case(body, PATH=str(secret)), SMALL).outcome == "failed"
    if body != HARD_LINK:  # which another file system would refuse by itself
        assert run(case(body, PATH=str(secret)), SMALL, confined=False).passed


@pytest.mark.parametrize("body", [WRITE, SYSTEM, CHMOD])
def test_no_writing_outside(body, tmp_path):
    path = tmp_path / "file"
    if body == CHMOD:
        path.write_text("")
        path.chmod(0o600)
    assert run(case(body, PATH=str(path)), SMALL).outcome == "failed"
    assert path.exists() == (body == CHMOD)
    if body == CHMOD:
        assert path.stat().st_mode & 0o777 == 0o600
    assert run(case(body, PATH=str(path)), SMALL, confined=False).passed


def test_no_network(listener):
    port, came = listener
    assert run(case(CONNECT, PORT=port), SMALL).outcome == "failed"
    assert run(case(DATAGRAM, PORT=port), SMALL).outcome == "failed"
    assert came == []
    assert run(case(CONNECT, PORT=port), SMALL, confined=False).passed
    assert run(case(DATAGRAM, PORT=port), SMALL, confined=False).passed


@pytest.mark.parametrize("body", [SHELL, FORK, CTYPES_FORK, RAW_CLONE])
def test_no_other_program_and_no_second_process(body):
    assert run(case(body), SMALL).outcome == "failed"
    assert run(case(body), SMALL, confined=False).passed


def test_no_fork_bomb():
    assert run(case(FORK_BOMB), SMALL).outcome == "failed"


def test_no_daemon_outlives_its_program(tmp_path):
    path = tmp_path / "alive"
    assert run(case(DAEMON, PATH=str(path)), SMALL).outcome == "failed"
    time.sleep(0.2)
    assert not path.exists()


@pytest.mark.parametrize("body", [SIGNAL, SIGNAL_BY_FILE, PTRACE, OTHERS_ENVIRONMENT])
def test_no_reach_into_another_process(body, victim):
    assert run(case(body, PID=victim.pid), SMALL).outcome == "failed"
    assert victim.poll() is None
    if body == OTHERS_ENVIRONMENT:
        assert run(case(body, PID=victim.pid), SMALL, confined=False).passed


@pytest.mark.parametrize("body", [ENVIRONMENT, OWN_ENVIRONMENT, PARENTS_ENVIRONMENT])
def test_no_secret_of_the_environment(body, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "the secret")
    assert run(case(body), SMALL).outcome == "failed"


@pytest.mark.parametrize(
    "body", [CUT, OPEN_FOR_NOTHING, OWN_DESCRIPTORS, THREAD_WITH_OWN_DESCRIPTORS, OTHER_SOCKETS, SEND_TO_OTHERS]
)
def test_no_call_that_some_kernel_does_not_check(body, tmp_path):
    (tmp_path / "file").write_text("")
    assert run(case(body, PATH=str(tmp_path / "file")), SMALL).outcome == "failed"
    assert run(case(body, PATH=str(tmp_path / "file")), SMALL, confined=False).passed


def test_limits_cannot_be_raised():
    assert run(case(LIMITS), SMALL).outcome == "failed"


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


def test_nothing_is_left_behind():
    before = set(Path(sandbox.tempfile.gettempdir()).glob("aigc-text-run-*"))
    descriptors = len(os.listdir("/proc/self/fd"))
    assert len(list(run_all([case("return True"), case("import os; os._exit(3)")] * 4, SMALL, workers=4))) == 8
    assert set(Path(sandbox.tempfile.gettempdir()).glob("aigc-text-run-*")) == before
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_nothing_outlives_the_watcher(tmp_path):
    script = (
        "import sys\nfrom aigc_text.sandbox import Case, Limits, run\n"
        "run(Case('import time\\ntime.sleep(1000)', ''), Limits(seconds=100))"
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
from lock import install, _call, _COLUMN
libc = ctypes.CDLL(None, use_errno=True)
_call(libc.prctl(38, 1, 0, 0, 0), "no_new_privs")
install(libc, [(0x20, 0, 0, 0), (0x15, 0, 1, 444), (6, 0, 0, 0x50000 | errno.ENOSYS), (6, 0, 0, 0x7fff0000)])
sys.path.pop(0)
from aigc_text.errors import OptionError
from aigc_text.sandbox import Case, check_support, run
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
    script = WITHOUT_LANDLOCK.format(folder=str(sandbox.START.parent))
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
    words = [str(tmp_path / "file"), str(tmp_path / "scratch"), str(sandbox.START.parent)]
    done = subprocess.run([sys.executable, "-c", FIRST_LANDLOCK, *words], capture_output=True, text=True, check=True)
    assert done.stdout == "4\n" and (tmp_path / "file").read_text() == "kept"


def test_limits_are_checked():
    with pytest.raises(OptionError, match="memory cannot be 1"):
        Limits(memory=1)
