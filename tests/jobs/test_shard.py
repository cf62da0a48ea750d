"""A file of prompts to a file of records, shared by several processes; see test_batch_job."""

import json

import pytest
import tiny
from team import ACCELERATE, fails, launched

from aigc_text.jobs.shard import Share
from tests.jobs.test_batch_job import names, prompts_file, timeless


@pytest.mark.parametrize("world", [1, 2, 3, 7])
@pytest.mark.parametrize("total", [0, 1, 2, 5, 255, 256, 257, 2000])
def test_the_shares_are_the_whole_in_their_order(world, total):
    shares = [Share(rank, world, total) for rank in range(world)]
    owned = [[p for p in range(total) if shares[0].owner(p) == rank] for rank in range(world)]
    for share, places in zip(shares, owned, strict=True):
        assert [share.number(p) for p in places] == list(range(len(share)))
    assert sum(map(len, shares)) == total
    assert sum(1 for share in shares if len(share)) == min(world, total) or total > world


@pytest.fixture(scope="module")
def words(tmp_path_factory):
    """A command line but for --output, for more texts than one stretch of a share holds."""
    folder = tmp_path_factory.mktemp("words")
    model, prompts = tiny.save("gpt2", folder / "model"), prompts_file(folder, 300)
    given = ["--model", model, "--prompts", prompts, "--format", "jsonl", "-n", "2", "--max-new-tokens", "3"]
    return ["generate", *map(str, given)]


@pytest.fixture(scope="module")
def one(team, words, tmp_path_factory):
    out = tmp_path_factory.mktemp("one") / "out"
    done = team.command(1, *words, "--seed", 4, "--output", out)
    assert done["codes"] == [0], done["err"]
    return timeless(out)


def test_two_processes_make_the_file_of_one(team, words, one, tmp_path):
    done = team.command(2, *words, "--seed", 4, "--output", tmp_path / "out")
    assert done["codes"] == [0, 0], done["err"]
    assert timeless(tmp_path / "out") == one
    assert names(tmp_path) == ["out"]
    assert done["out"] == ["", ""] and done["err"][1] == "" and "share 1 of 2" in done["err"][0]


def test_two_processes_draw_one_seed_and_go_on_with_it_after_a_kill(team, words, one, tmp_path):
    killed = team.command(2, *words, "--output", tmp_path / "out", kill={"all": str(tmp_path / "out.partial.run")})
    assert set(killed["codes"]) == {-9}
    seed = json.loads((tmp_path / "out.partial.run").read_text())["seed"]
    left = [n for n in names(tmp_path) if not n.endswith(".lock")]  # a kill leaves those of locks, which hold nothing
    assert left == ["out.partial.1-of-2", "out.partial.2-of-2", "out.partial.run"]
    fails(team.command(2, *words, "--output", tmp_path / "out"), 2, "exists already: a run was not finished")
    fails(team.command(2, *words, "--seed", seed + 1, "--output", tmp_path / "out", "--resume"), 2, f"now {seed + 1}")
    [alone] = team.command(1, *words, "--output", tmp_path / "out", "--resume")["err"]
    assert "out.partial was begun with processes=2, now 1" in alone
    done = team.command(2, *words, "--output", tmp_path / "out", "--resume")
    assert done["codes"] == [0, 0], done["err"]
    records = timeless(tmp_path / "out")
    assert {r["seed"] for r in records} == {seed} and names(tmp_path) == ["out"]
    assert [r["prompt"] for r in records] == [r["prompt"] for r in one]


def test_processes_with_other_options_are_told(team, words, tmp_path):
    done = team.command(2, *words, "--output", tmp_path / "out", more={"1": ["--temperature", "0.5"]})
    assert "process 1 has other options than the main process" in "".join(done["err"])
    assert 2 in done["codes"] and names(tmp_path) == []


def test_an_error_of_all_is_said_once(team, words, tmp_path):
    fails(team.command(2, *words, "--prompts", tmp_path / "none", "--output", tmp_path / "out"), 2, "does not exist")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["--prompt", "a"], "they can only make a file of records together"),
        (["--prompt", "a", "--output", "out"], "they can only make a file of records together"),
        (["--output", "out", "--format", "jsonl"], "cannot share prompts from a pipe"),
    ],
)
def test_what_several_processes_cannot_do_is_refused(team, given, says):
    fails(team.command(2, "generate", "--model", "not/needed", *given), 2, says)


def test_accelerate_launch_makes_the_file_of_one(words, one, tmp_path):
    out = ("--seed", "4", "--output", str(tmp_path / "out"))
    launcher, said = launched(*ACCELERATE, "-m", "aigc_text", *words, *out)
    assert launcher.returncode == 0, said
    assert timeless(tmp_path / "out") == one and names(tmp_path) == ["out"]
    assert [line.split()[0] for line in said.splitlines() if line.strip()] == ["generating"]
