"""The user's token is written nowhere, nothing calls the hub that need not, and a reader of a pipe may leave.

What is said of connections is shown by the system calls themselves, as strace writes them down.
"""

import http.server
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from aigc_text.errors import HIDDEN, ModelError, UserError, _stored, redacted

ROOT = Path(__file__).parents[2]
TOKEN = "planted-0a1b2c3d4e5f6071"  # not of the hub's form, so that it is known by the environment alone
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def holding(folder, secret=TOKEN):
    """The files below a folder that hold the secret in their bytes, in their names, or behind a compression."""
    found = []
    for path in folder.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        if path.suffix == ".parquet":
            import pyarrow.parquet

            table = pyarrow.parquet.read_table(path)
            content += repr((table.to_pylist(), table.schema.metadata)).encode()
        if secret.encode() in content or secret in path.name:
            found.append(path)
    return found


def test_the_search_finds_what_is_there(tmp_path):
    from aigc_text.data.tables import write_parquet

    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "weights.bin").write_bytes(b"\xff" * 100 + TOKEN.encode() + b"\0")
    write_parquet(tmp_path / "t.parquet", {"text": [TOKEN] * 3}, {})
    (tmp_path / "innocent.txt").write_text(TOKEN[:-1])
    assert {p.name for p in holding(tmp_path)} == {"weights.bin", "t.parquet"}


@pytest.fixture
def planted(monkeypatch, tmp_path):
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        monkeypatch.setenv(name, TOKEN)
    monkeypatch.setenv("AIGC_TEXT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path / "datasets"))


def test_nothing_that_is_written_holds_the_token(run, planted, tmp_path, tiny_gpt2, data):
    vae = ["--model", "bundled:vae-captions"]
    lines = tmp_path / "lines.txt"
    lines.write_text("a dog runs\na man sits on a bench\n")
    trained = tmp_path / "run"
    small = ["--block-size", "16", "--batch-size", "2", "--max-steps", "2", "--save-every", "1", "--eval-every", "1"]
    measured = ["--sample-by", "line", "-n", "2", "--metrics", "bleu"]
    commands = [
        ["train", "--model", tiny_gpt2, "--data", data, "--output", trained, *small],
        ["train", "--model", tiny_gpt2, "--data", data, "--output", trained, *small, "--resume"],
        ["generate", "--model", trained, "--prompts", lines, "--format", "jsonl", "--output", tmp_path / "out.jsonl"],
        ["evaluate", "--model", trained, "--data", lines, *measured, "--output", tmp_path / "report"],
        ["score", lines, "--model", trained, "--output", tmp_path / "scores.jsonl", "--picture", tmp_path / "s.html"],
        ["latents", lines, *vae, "--output", tmp_path / "z.parquet", "--output", tmp_path / "z.npy"],
        ["generate", "--model", trained, "--prompt", "x", "-o", "none=1"],
        ["train", "--model", "nobody/nothing", "--data", data, "--output", tmp_path / "other"],
        ["backends", "--json"],
    ]
    for words in commands:
        few = ["--max-new-tokens", "4", "--seed", "1"] if words[0] in ("generate", "evaluate") else []
        done = run("--debug", *words, *few)
        assert done.code in (0, 2), done.err
        assert (done.code == 2) == ("none=1" in words or "nobody/nothing" in words), done.err
        assert TOKEN not in done.out + done.err
    assert len(list(tmp_path.rglob("*"))) > 30
    assert (trained / "options.json").exists() and (tmp_path / "report").is_dir() and any(trained.glob("checkpoints/*"))
    assert holding(tmp_path) == []


# Errors


def test_an_error_hides_tokens_and_passwords(monkeypatch, tmp_path):
    _stored.cache_clear()
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    (tmp_path / "token").write_text("stored-in-a-file-123\n")
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    monkeypatch.setenv("HTTPS_PROXY", "http://me:pass-phrase-1@proxy:3128")
    quoted = (
        f"401 for {{'authorization': 'Bearer {TOKEN}'}} via http://me:pass-phrase-1@proxy, not stored-in-a-file-123"
    )
    for text in (redacted(quoted), str(ModelError(quoted, quoted)), str(UserError("x", quoted))):
        assert HIDDEN in text and "401 for" in text
        assert not any(secret in text for secret in (TOKEN, "pass-phrase-1", "stored-in-a-file-123"))
    assert redacted("hf_AbCdEfGhIjKlMnOpQrStUvWx") == HIDDEN  # another one's, by its form
    assert redacted("hf_hub and hf_token are names") == "hf_hub and hf_token are names"
    monkeypatch.setenv("HF_TOKEN", "1")  # what is so short is no secret, and every "1" would be gone
    assert redacted("step 1 of 10") == "step 1 of 10"
    _stored.cache_clear()


class _Quoting(http.server.BaseHTTPRequestHandler):
    """A hub that refuses, and quotes the request in what it says of it."""

    asked: list[str] = []

    def do_GET(self):
        told = self.headers.get("Authorization", "")
        self.asked.append(told)
        body = json.dumps({"error": f"forbidden: the request had Authorization: {told}"}).encode()
        self.send_response(403)
        self.send_header("X-Error-Message", f"forbidden: the request had Authorization: {told}")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def quoting_hub():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Quoting) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        _Quoting.asked.clear()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def environment(folder, **more):
    proxies = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
    kept = {k: v for k, v in os.environ.items() if k.lower() not in proxies and not k.startswith("HF_")}
    kept = {k: v for k, v in kept.items() if k != "TRANSFORMERS_OFFLINE"}
    return {
        **kept,
        "PYTHONPATH": str(ROOT),
        "HF_HOME": str(folder / "hf"),
        "AIGC_TEXT_CACHE": str(folder / "cache"),
        **more,
    }


@pytest.mark.parametrize("debug", [[], ["--debug"]], ids=["plain", "debug"])
def test_a_hub_that_quotes_the_request_betrays_no_token(quoting_hub, tmp_path, debug):
    (tmp_path / "data.txt").write_text("some text\n" * 30)
    env = environment(tmp_path, HF_ENDPOINT=quoting_hub, HF_TOKEN=TOKEN)
    words = ["generate", "--model", "owner/name", "--prompt", "x"]
    if debug:
        words = ["train", "--model", "owner/name", "--data", "data.txt", "--output", "run"]
    command = [sys.executable, "-m", "aigc_text", *debug, *words]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path, stdin=subprocess.DEVNULL)
    assert done.returncode == 2, done.stderr
    assert f"Bearer {TOKEN}" in _Quoting.asked  # it was sent, so it can have come back
    assert bool(debug) == ("Traceback" in done.stderr)
    assert not debug or f"Bearer {HIDDEN}" in done.stderr  # it was quoted
    assert TOKEN not in done.stdout + done.stderr
    assert holding(tmp_path) == []


# Offline


def strace(*events):
    """The beginning of a command line that writes the system calls of a process and its children to a file."""
    tried = shutil.which("strace") and subprocess.run(["strace", "-qq", "-o", os.devnull, "true"], capture_output=True)
    if not tried or tried.returncode:
        told = "strace is missing (apt-get install strace)" if not tried else f"strace fails: {tried.stderr!r}"
        assert not os.environ.get("CI"), told
        pytest.skip(told)
    return ["strace", "-f", "-qq", "--seccomp-bpf", "-e", f"trace={','.join(events)}"]


CALLS = (
    "connect",
    "sendto",
    "sendmsg",
    "sendmmsg",
)  # a socket alone reaches nobody: urllib3 makes one to learn of IPv6
# A look-up of the user's name asks for the name service's cache, through a file of this machine; there is none.
LOCAL = re.compile(r"sun_path=\"/var/run/nscd/socket\"")
DRIVER = """
import sys
from aigc_text import cli
for words in {commands!r}:
    sys.argv = ["aigc-text", *words]
    try:
        cli.main()
    except SystemExit as end:
        if end.code:
            sys.exit(f"{{words}}: {{end.code}}")
"""


def traced(folder, env, *command):
    """The outcome of a command for which the network is denied, and the calls it made to reach it."""
    trace = folder / "trace.txt"
    denied = ["-e", "inject=connect,sendto,sendmsg,sendmmsg:error=ENETUNREACH", "-o", str(trace)]
    command = [*strace(*CALLS), *denied, sys.executable, *command]
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=folder, stdin=subprocess.DEVNULL)
    calls = [line for line in trace.read_text().splitlines() if any(f"{call}(" in line for call in CALLS)]
    return done, [call for call in calls if not LOCAL.search(call)]


def test_with_a_cached_model_no_connection_is_tried(tmp_path, tiny_gpt2):
    place = tmp_path / "hf" / "hub" / "models--openai-community--gpt2"
    shutil.copytree(tiny_gpt2, place / "snapshots" / COMMIT)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(COMMIT)
    (tmp_path / "data.txt").write_text("Once upon a time there was a cat.\nThe dog saw the cat.\n" * 20)
    small = ["--block-size", "16", "--batch-size", "2", "--max-steps", "2"]
    evaluated = ["--data", "data.txt", "--sample-by", "line", "-n", "4", "--max-new-tokens", "4", "--metrics", "bleu"]
    evaluated += ["--output", "report"]
    commands = [
        ["generate", "--prompt", "Once", "--max-new-tokens", "4"],
        ["generate", "--model", "openai-community/gpt2", "--prompt", "x", "--format", "jsonl", "--output", "o.jsonl"],
        ["generate", "--engine", "ctranslate2", "--prompt", "Once", "--max-new-tokens", "4"],
        ["score", "data.txt", "--model", "openai-community/gpt2", "--output", "scores.jsonl"],
        [
            "train",
            "--from-scratch",
            "--tokenizer",
            "openai-community/gpt2",
            "--data",
            "data.txt",
            "--output",
            "new",
            *small,
        ],
        ["train", "--data", "data.txt", "--output", "run", *small],
        ["evaluate", "--model", "openai-community/gpt2", *evaluated],
        ["generate", "--model", "run", "--prompt", "x", "--max-new-tokens", "4"],
    ]
    # Without HF_HUB_OFFLINE: that the model is in the cache is enough.
    done, calls = traced(tmp_path, environment(tmp_path), "-c", DRIVER.format(commands=commands))
    assert done.returncode == 0, done.stderr
    assert calls == []
    assert "bundled" not in done.stderr and json.loads((tmp_path / "o.jsonl").read_text())["revision"] == COMMIT
    assert (tmp_path / "run" / "config.json").exists() and (tmp_path / "report").is_dir()


def test_the_trace_shows_what_is_tried_and_offline_stops_it(tmp_path):
    words = ["-m", "aigc_text", "generate", "--model", "nobody/nothing", "--prompt", "x"]
    env = environment(tmp_path, HF_ENDPOINT="http://127.0.0.1:9")
    for offline in ({}, {"HF_HUB_OFFLINE": "1"}):
        done, calls = traced(tmp_path, {**env, **offline}, *words)
        assert done.returncode == 2 and "the hub cannot be reached" in done.stderr
        assert any("AF_INET" in call for call in calls) == (not offline)
        assert not offline or calls == []


# A reader that leaves


@pytest.mark.parametrize("what", ["texts", "records", "list", "score", "evaluate"])
def test_a_reader_that_leaves_is_no_error(plain, tmp_path, tiny_gpt2, what):
    (tmp_path / "lines.txt").write_text("".join(f"the cat sat on mat {n}\n" for n in range(400)))
    many = ["generate", "--backend", plain("Plain"), "--prompt", "x" * 50, "-n", "20000", "--seed", "1"]
    words = {
        "texts": many,
        "records": [*many, "--format", "jsonl"],
        "list": ["backends"],
        "score": ["score", "lines.txt", "--sample-by", "line", "--model", str(tiny_gpt2), "--format", "jsonl"],
        "evaluate": ["evaluate", "--samples", "lines.txt", "--data", "lines.txt", "--metrics", "lengths"],
    }[what]
    shell = 'set -o pipefail; "$@" | head -n 1'
    command = ["bash", "-c", shell, "bash", sys.executable, "-m", "aigc_text", *words]
    env = environment(tmp_path, HF_HUB_OFFLINE="1")
    done = subprocess.run(command, capture_output=True, text=True, env=env, cwd=tmp_path, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    told = [line for line in done.stderr.splitlines() if "measured" not in line]
    assert (
        told == [] or what in ("score", "evaluate") and not re.search("(?i)error|traceback|pipe|ignored", done.stderr)
    )
