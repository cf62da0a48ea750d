"""Programs that a model might write to get out, and one that does no harm."""

import os
import socket
import subprocess
import sys
import textwrap
import threading
import time

import pytest

from aigc_text.code_eval.sandbox.cases import Case, Limits
from aigc_text.code_eval.sandbox.runner import run

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
