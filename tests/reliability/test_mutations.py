"""Odd screens are refused with a clear error, or everything that is done with them gives finite numbers."""

from __future__ import annotations

import pytest

from tests.reliability.mutations import campaign


@pytest.mark.slow
def test_what_is_odd_about_a_screen_is_refused_or_does_no_harm() -> None:
    """Sixty of the screens that ``python tests/reliability/mutations.py 3000`` tries."""
    counts, wrong = campaign(range(60))
    assert wrong == {}
    assert counts["setup", "refused"] > 10
    assert counts["setup", "done"] > 10
