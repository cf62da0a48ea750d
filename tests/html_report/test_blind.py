"""The blind sheet: fair pairs, nothing in the page that tells whose they are, and a tally that adds up."""

import json
from collections import Counter

import pages
import pytest

from aigc_text.errors import DataError
from aigc_text.html_report import blind, tally
from aigc_text.html_report.reading import Text, Texts


def systems(*labels, count=40, prompts=("",)):
    found = []
    for n, label in enumerate(labels):
        items = [Text(prompts[i % len(prompts)], t) for i, t in enumerate(pages.texts(count, n, f"{label[0]}{n}"))]
        found.append(Texts(label=label, of=label, items=items))
    return found


def test_pairs_are_of_two_systems_for_the_same_prompt_and_sides_are_mixed():
    three = systems("one", "two", "three", count=60, prompts=["x", "y", "z"])
    sheet = blind.draw(three, set(), 30, 0)
    where = {item: (s.label, key) for s in three for key, item in s.keyed().items()}
    for pair in sheet.pairs:
        (one, key), (other, same) = where[Text(pair.prompt, pair.a)], where[Text(pair.prompt, pair.b)]
        assert (one, other) == pair.systems and one != other and key == same
    counts = Counter(frozenset(p.systems) for p in sheet.pairs)
    assert set(counts.values()) == {10} and len(counts) == 3
    for two in counts:
        assert 0 < sum(p.systems[0] == min(two) for p in sheet.pairs if set(p.systems) == two) < 10
    assert len({(frozenset(p.systems), p.a) for p in sheet.pairs}) == 30


def test_a_seed_gives_the_same_sheet_and_another_one_another():
    two = systems("one", "two")
    assert blind.draw(two, set(), 10, 3) == blind.draw(two, set(), 10, 3)
    assert blind.draw(two, set(), 10, 3).id != blind.draw(two, set(), 10, 4).id


def test_texts_that_are_shown_or_the_same_are_not_asked_about():
    two = systems("one", "two", count=10)
    shown = {item.text for item in two[0].items[:7]}
    items = [*two[1].items[:8], two[0].items[8], *two[1].items[9:]]
    two[1] = Texts(label="two", of="two", items=items)
    sheet = blind.draw(two, shown, 30, 0)
    assert len(sheet.pairs) == 2 and not {t for p in sheet.pairs for t in (p.a, p.b)} & shown
    assert blind.draw(two[:1], set(), 30, 0) is None
    assert blind.draw([two[0], Texts(label="x", of="x", items=[Text("other", "t")])], set(), 30, 0) is None


def test_what_goes_into_the_page_names_no_system_and_cannot_leave_its_element():
    hostile = ["</script><script>alert(1)</script>", "<!--", "a\u2028b&amp;\u2029", "\ud800\u202e"]
    named = systems("secret-one", "secret-two", count=8)
    one = Texts(label="secret-one", of="", items=[Text(h, f"{h} 1") for h in hostile] + list(named[0].items))
    other = Texts(label="secret-two", of="", items=[Text(h, f"{h} 2") for h in hostile] + list(named[1].items))
    payload = blind.draw([one, other], set(), 30, 0).payload()
    assert "secret" not in payload and payload.isascii() and not set(payload) & set("<>&")
    found = json.loads(payload)
    assert "</script><script>alert(1)</script>" in {p["prompt"] for p in found["pairs"]}
    assert "<U+D800><U+202E> 1" in {t for p in found["pairs"] for t in (p["a"], p["b"])}
    assert set(found) == {"id", "pairs"} and {frozenset(p) for p in found["pairs"]} == {
        frozenset(("id", "prompt", "a", "b"))
    }


# The tally

KEY = {
    "kind": blind.KIND,
    "sheet": "s1",
    "seed": 0,
    "pairs": {
        "p1": {"a": "gpt", "b": "rnn"},
        "p2": {"a": "rnn", "b": "gpt"},
        "p3": {"a": "gpt", "b": "rnn"},
        "p4": {"a": "rnn", "b": "gpt"},
        "p5": {"a": "rnn", "b": "vae"},
    },
}
ANN = {"p1": "a", "p2": "b", "p3": "b", "p4": "same", "p5": "b"}  # gpt: won 2, lost 1, tied 1; vae beat rnn
BOB = {"p1": "a", "p2": "b", "p3": "a", "p4": "same"}


@pytest.fixture
def counted(tmp_path):
    def ran(*given, key=KEY):
        (tmp_path / "key.json").write_text(json.dumps(key))
        files = []
        for n, (rater, answers) in enumerate(given):
            files.append(tmp_path / f"answers{n}.json")
            files[-1].write_text(json.dumps({"sheet": "s1", "rater": rater, "answers": answers}))
        return tally.tally(files, tmp_path / "key.json")

    return ran


def test_one_rater(counted):
    [gpt, vae] = counted(("ann", ANN))
    assert (gpt.first, gpt.second, gpt.wins, gpt.losses, gpt.ties) == ("gpt", "rnn", 2, 1, 1)
    assert gpt.share == pytest.approx(2 / 3) and (gpt.low, gpt.high) == pytest.approx((0.2077, 0.9385), abs=1e-4)
    assert gpt.p == 1.0 and (gpt.judgments, gpt.raters, gpt.agreement) == (4, 1, None)
    assert (vae.first, vae.second, vae.wins, vae.losses, vae.p) == ("rnn", "vae", 0, 1, 1.0)


def test_two_raters_count_a_pair_once_and_agree_by_kappa(counted):
    [gpt, vae] = counted(("ann", ANN), ("bob", BOB))
    # p1 and p2 are gpt's by both, p3 is split, p4 is tied by both.
    assert (gpt.wins, gpt.losses, gpt.ties, gpt.judgments, gpt.raters) == (2, 0, 2, 8, 2)
    # Observed 3/4; ann says gpt 2, rnn 1, same 1, and bob gpt 3, same 1: expected (2*3 + 0 + 1) / 16.
    assert gpt.agreement == pytest.approx((3 / 4 - 7 / 16) / (1 - 7 / 16)) and gpt.agreement_kind == "kappa"
    assert gpt.judged_by_several == 4
    assert (vae.raters, vae.agreement) == (1, None)


def test_three_raters_agree_by_their_share_of_equal_verdicts(counted):
    [gpt, _] = counted(("ann", ANN), ("bob", BOB), ("cyd", {"p1": "b", "p3": "a"}))
    # p1: gpt, gpt, rnn: one of three twos agrees; p2: one of one; p3: rnn, gpt, gpt: one of three; p4: one of one.
    assert gpt.agreement == pytest.approx(4 / 8) and gpt.agreement_kind == "equal"
    assert (gpt.wins, gpt.losses, gpt.ties) == (3, 0, 1)
    text = tally.written([gpt])
    assert "50%" in text and "Ties are left out" in text and "equal verdicts" in text


@pytest.mark.parametrize(
    ("wins", "losses", "p"), [(0, 0, None), (5, 0, 2 / 32), (8, 2, 112 / 1024), (3, 3, 1.0), (1, 9, 22 / 1024)]
)
def test_the_sign_test_is_exact(wins, losses, p):
    assert tally.sign_test(wins, losses) == p


@pytest.mark.parametrize(
    ("wins", "of", "interval"), [(8, 10, (0.4902, 0.9433)), (0, 10, (0, 0.2775)), (5, 5, (0.5655, 1))]
)
def test_wilson_intervals_are_those_of_the_tables(wins, of, interval):
    assert tally.wilson(wins, of)[1:] == pytest.approx(interval, abs=1e-4)


def test_raters_who_always_say_the_same_have_no_kappa(counted):
    [gpt, _] = counted(("ann", {"p1": "a", "p2": "b"}), ("bob", {"p1": "a", "p2": "b"}))
    assert gpt.agreement is None and gpt.agreement_kind == "kappa" and gpt.judged_by_several == 2


def test_a_table_and_json_hold_the_same(counted):
    lines = counted(("ann", ANN), ("bob", BOB))
    heading, first = tally.written(lines).splitlines()[:2]
    assert heading.split()[:5] == ["first", "second", "wins", "losses", "ties"]
    assert first.split()[:6] == ["gpt", "rnn", "2", "0", "2", "1.000"] and "kappa 0.56" in first
    found = json.loads(tally.written(lines, "json"))
    assert found[0]["wins"] == 2 and found[0]["p"] == 0.5


def test_a_rater_without_a_name_goes_by_the_file_and_nobody_counts_twice(counted):
    assert counted(("", ANN), ("", BOB))[0].raters == 2
    with pytest.raises(DataError, match="'ann' already"):
        counted(("ann", ANN), ("ann", BOB))
