"""Which curve dominates, by how much, and when nobody can say."""

import pytest

from aigc_text.evaluation.frontier import compare, curves, findings
from aigc_text.evaluation.results import Row

QUALITY, DIVERSITY = "bleu-5", "self-bleu-5"


def row(label, quality, diversity, at=None, error=0.0):
    values = {QUALITY: quality, DIVERSITY: diversity}
    errors = {QUALITY: error, DIVERSITY: error}
    return Row(label=label, at={"temperature": at} if at else {}, samples=10, values=values, errors=errors)


REAL = row("real data", 0.5, 0.1)
LOW = [row("low", 0.10, 0.20, 1.2), row("low", 0.20, 0.30, 1.0), row("low", 0.30, 0.50, 0.8)]
HIGH = [row("high", 0.15, 0.30, 1.2), row("high", 0.35, 0.70, 0.8)]


def said(*rows):
    return findings([REAL, *rows], QUALITY, DIVERSITY)


def test_a_curve_is_linear_between_its_points_whatever_their_order():
    (curve,) = curves([LOW[2], LOW[0], LOW[1]], QUALITY, DIVERSITY)
    assert [curve.at(q) for q in (0.10, 0.15, 0.25, 0.30)] == pytest.approx([0.20, 0.25, 0.40, 0.50])


def test_the_advantage_is_taken_over_the_qualities_that_both_reach():
    low, high = curves([*LOW, *HIGH], QUALITY, DIVERSITY)
    found = compare(low, high)
    assert (found.low, found.high) == (0.15, 0.30)
    # at .15: .30 - .25; at .20: .40 - .30; at .30: .60 - .50
    assert found.least == pytest.approx(0.05)
    assert found.greatest == pytest.approx(0.10)
    assert found.mean == pytest.approx((0.05 * (0.05 + 0.10) / 2 + 0.10 * 0.10) / 0.15)
    assert compare(high, low).greatest == pytest.approx(-0.05)


@pytest.mark.parametrize("rows", [[*LOW, *HIGH], [*HIGH, *LOW]])
def test_a_dominating_curve_is_named_with_its_margin(rows):
    assert said(*rows) == [
        "low dominates high at bleu-5 0.150 to 0.300, which both reach: its self-bleu-5 is lower by 0.050 or more, "
        "0.092 on average."
    ]


def test_a_margin_within_the_noise_is_no_verdict():
    noisy = [row("high", q, d, t, error=0.04) for q, d, t in ((0.15, 0.30, 1.2), (0.35, 0.70, 0.8))]
    (sentence,) = said(*LOW, *noisy)
    assert sentence == (
        "low and high cannot be told apart at bleu-5 0.150 to 0.300, which both reach: the self-bleu-5 of low is lower "
        "by 0.050 or more, 0.092 on average, less than two standard errors (0.040)."
    )


def test_figures_of_other_numbers_of_texts_are_not_compared():
    from dataclasses import replace

    fewer = [replace(each, samples=9) for each in HIGH]
    assert said(*LOW, *fewer) == ["low and high are not compared: figures of 9 and of 10 texts differ by that alone."]
    many = [replace(each, samples=n) for each, n in ((LOW[1], 10_000), (row("b", 0.3, 0.2), 9_984))]
    assert said(*many) == ["b is better than low in both: bleu-5 by 0.100, self-bleu-5 by 0.100."]


def test_crossing_curves_dominate_nowhere():
    (sentence,) = said(*LOW, row("cross", 0.10, 0.10, 1.2), row("cross", 0.30, 0.90, 0.8))
    assert sentence.startswith("neither of low and cross dominates")
    assert "low is better in self-bleu-5 by up to 0.400, cross by up to 0.100" in sentence


def test_curves_without_a_common_quality_are_not_compared():
    assert "reach no bleu-5 in common" in said(*LOW, row("far", 0.40, 0.1, 1.2), row("far", 0.45, 0.2, 0.8))[0]


def test_a_single_point_is_held_against_a_curve_at_its_quality():
    assert said(*LOW, row("point", 0.25, 0.30)) == [
        "point dominates low at bleu-5 0.250: its self-bleu-5 is lower by 0.100."
    ]


def test_of_two_points_one_may_be_better_in_both():
    assert said(row("a", 0.2, 0.3), row("b", 0.3, 0.2)) == [
        "b is better than a in both: bleu-5 by 0.100, self-bleu-5 by 0.100."
    ]
    assert said(row("a", 0.2, 0.3, error=0.1), row("b", 0.3, 0.2)) == [
        "b and a cannot be told apart: b is ahead in bleu-5 by 0.100, self-bleu-5 by 0.100, not both by two standard "
        "errors."
    ]
    assert "each is better in one" in said(row("a", 0.2, 0.2), row("b", 0.3, 0.3))[0]


def test_quality_above_the_real_data_is_called_mode_seeking():
    assert said(row("a", 0.51, 0.9)) == ["bleu-5 above that of the real data (0.500) is mode seeking, not quality: a."]


def test_mode_seeking_is_claimed_only_beyond_two_standard_errors_and_of_comparable_texts():
    from dataclasses import replace

    over = row("a", 0.6, 0.9, error=0.04)
    assert said(over) != []  # by 2.5 standard errors: the real row's is 0 here
    assert said(replace(over, errors={QUALITY: 0.06})) == []
    assert findings([replace(REAL, errors={QUALITY: 0.06}), over], QUALITY, DIVERSITY) == []
    assert said(replace(over, errors={})) == []  # nobody can say
    assert said(replace(over, samples=9)) == []
    many = findings([replace(REAL, samples=10_000), replace(over, samples=9_984)], QUALITY, DIVERSITY)
    assert len(many) == 1  # 16 texts of 10,000 make no difference
    assert said(replace(over, comparable=False)) == []


def test_higher_diversity_is_better_where_the_column_says_so():
    rows = [
        Row(label=n, values={"bleu-2": q, "distinct-2": d}, errors={"bleu-2": 0.01, "distinct-2": 0.01})
        for n, q, d in (("r", 1, 1), ("a", 0.2, 0.5), ("b", 0.3, 0.6))
    ]
    assert findings(rows, "bleu-2", "distinct-2") == [
        "b is better than a in both: bleu-2 by 0.100, distinct-2 by 0.100."
    ]


def test_without_standard_errors_there_is_no_verdict():
    rows = [
        Row(label=n, values={"bleu-2": q, "distinct-2": d}, errors={"bleu-2": 0.01})
        for n, q, d in (("r", 1, 1), ("a", 0.2, 0.5), ("b", 0.3, 0.6))
    ]
    assert findings(rows, "bleu-2", "distinct-2") == [
        "b and a cannot be told apart: b is ahead in bleu-2 by 0.100, distinct-2 by 0.100, distinct-2 without a "
        "standard error."
    ]


def test_rows_without_the_figures_are_left_out():
    assert said(Row(label="a", missing={QUALITY: "no"}), row("b", 0.1, 0.1)) == []
    assert findings([], QUALITY, DIVERSITY) == []
