"""The backend keeps the contract of aigc-text, and does what it is for."""

from __future__ import annotations

from aigc_text_template import TemplateBackend

from aigc_text.testing import check_backend


def test_keeps_the_contract() -> None:
    assert "Every option that it takes has its effect" in list(check_backend(TemplateBackend))


def test_draws_from_its_list() -> None:
    [made] = TemplateBackend(["yes"]).generate(["Really?"], max_new_tokens=2, seed=1)
    assert made.text == " yes yes"
