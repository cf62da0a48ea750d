"""Text on a terminal cannot move the cursor or hide itself; files get it byte for byte."""

import pytest
from commands import Terminal

from aigc_text.cli.terminal import visible, write


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b[0m", "␛[31mred␛[0m"),
        ("\x1b]0;title\x07", "␛]0;title␇"),  # OSC: would name the window
        ("\x1b]8;;http://x\x1b\\link", "␛]8;;http://x␛\\link"),
        ("over\rwritten\b\x7f\x00", "over␍written␈␡␀"),
        ("\x9b31m\x85", "<U+009B>31m<U+0085>"),  # C1: an escape in one character
        ("\u202eabc\u202c \u2066x\u2069 \u200e", "<U+202E>abc<U+202C> <U+2066>x<U+2069> <U+200E>"),
        ("\ufeff\u00ad\u200b", "<U+FEFF><U+00AD><U+200B>"),
        ("a\u2028b\u2029c", "a<U+2028>b<U+2029>c"),
        ("\udcff", "<U+DCFF>"),
    ],
)
def test_control_characters_are_made_visible(text, shown):
    assert visible(text) == shown


@pytest.mark.parametrize(
    "text", ["line\n\tindented\n", "从前有一座山", "👩\u200d👩\u200d👧\ufe0f", "می\u200cخواهم", "naïve café €", ""]
)
def test_text_stays_as_it_is(text):
    assert visible(text) == text


def test_a_terminal_gets_pictures():
    stream = Terminal()
    write(stream, "a\x1b[2J\n")
    assert stream.getvalue() == "a␛[2J\n"


def test_a_file_gets_it_byte_for_byte(tmp_path):
    text = "a\x1b[2J\u202e\r\n\x00中\n"
    with (tmp_path / "out").open("w", encoding="utf-8", newline="\n") as stream:
        write(stream, text)
    assert (tmp_path / "out").read_bytes() == text.encode()


def test_each_write_is_seen_at_once(tmp_path):
    with (tmp_path / "out").open("w", encoding="utf-8") as stream:
        write(stream, "piece")
        assert (tmp_path / "out").read_text(encoding="utf-8") == "piece"
