"""The table in its four forms, and what is said below it."""

import csv
import io
import json

from aigc_text.evaluation.results import Report, Row

PROTOCOL = {
    "data": "test.txt",
    "references": 5,
    "samples": 4,
    "seed": 0,
    "tokenize": "words",
    "sampling": "pure",
    "version": "1",
    "complete": True,
}
ROWS = [
    Row(label="real data", samples=4, values={"bleu-2": 0.5, "uniqueness": 1.0}, missing={"novelty": "it is the data"}),
    Row(
        label="a|b",
        at={"temperature": 0.5},
        samples=3,
        values={"bleu-2": 0.25, "novelty": 0.5, "ppl/word": 12.345, "kind": "bound"},
        errors={"bleu-2": 0.01},
        notes=["3 texts"],
    ),
]
REPORT = Report(protocol=PROTOCOL, rows=ROWS, findings=["one thing"])


def test_the_table_has_the_real_data_on_top_and_a_reason_for_each_gap():
    lines = REPORT.text().splitlines()
    assert lines[0].split() == ["quality", "and", "diversity", "texts", "bleu-2↑"]
    assert lines[1].split() == ["real", "data", "4", "0.500"]
    assert lines[2].split() == ["a|b", "temperature=0.5", "3", "0.250"]
    assert "n/a" in REPORT.text() and "* real data: n/a in novelty: it is the data" in lines
    assert "* a|b temperature=0.5: 3 texts" in lines and "one thing" in lines


def test_a_bound_never_looks_exact():
    for form in ("table", "markdown"):
        assert "≤12.3" in REPORT.text(form), form
    estimate = Row(label="c", values={"ppl/word": 12.3, "kind": "importance-weighted"})
    assert "≈12.3" in Report(protocol=PROTOCOL, rows=[estimate]).text()
    exact = Row(label="c", values={"ppl/word": 12.3, "kind": "exact"})
    assert "≈" not in Report(protocol=PROTOCOL, rows=[exact]).text()


def test_markdown_holds_no_markup_of_a_label():
    assert "| a\\|b temperature=0.5 | 3 | 0.250 |" in REPORT.text("markdown").splitlines()


def test_csv_and_json_have_every_figure_in_full():
    first, second = csv.DictReader(io.StringIO(REPORT.text("csv")))
    assert (first["bleu-2"], first["temperature"], first["novelty"]) == ("0.5", "", "")
    assert (second["label"], second["temperature"], second["bleu-2 standard error"]) == ("a|b", "0.5", "0.01")
    found = json.loads(REPORT.text("json"))
    assert found["rows"][1]["values"]["ppl/word"] == 12.345
    assert found["rows"][0]["missing"] == {"novelty": "it is the data"}
    assert found["protocol"] == PROTOCOL and found["findings"] == ["one thing"]


def test_writing_leaves_the_three_files_and_nothing_else(tmp_path):
    REPORT.write(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["report.json", "table.csv", "table.md"]
    assert json.loads((tmp_path / "report.json").read_text())["rows"][0]["label"] == "real data"


def test_reasons_shared_by_rows_are_told_once():
    rows = [Row(label=n, missing={f"bleu-{k}": "why" for k in range(2, 6)}) for n in "abc"]
    assert Report(protocol=PROTOCOL, rows=rows).notes() == ["all rows: n/a in bleu-2 … bleu-5: why"]
    assert Report(protocol=PROTOCOL, rows=rows[:2]).notes() == ["a, b: n/a in bleu-2 … bleu-5: why"]
