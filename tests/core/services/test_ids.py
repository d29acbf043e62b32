"""Ids are never alike, and times sort as text."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

from oubliette_core.services.ids import from_text, is_id, new_id, now, to_text


def test_ids_have_one_form_and_are_never_alike() -> None:
    """Sixty random bits, readable aloud, safe in paths."""
    ids = {new_id("proj") for _ in range(1000)}

    assert 1000 == len(ids)
    assert all(re.fullmatch(r"proj_[a-z2-7]{12}", each) and is_id(each, "proj") for each in ids)


def test_what_is_no_id_of_a_kind_is_told() -> None:
    """Another kind, another length, other characters."""
    wrong = [
        "",
        "proj_",
        "proj_aaaaaaaaaaa",
        "proj_aaaaaaaaaaaaa",
        "proj_AAAAAAAAAAAA",
        "proj_aaaaaaaaaaa1",
        "tok_aaaaaaaaaaaa",
    ]

    assert [False] * 7 == [is_id(text, "proj") for text in wrong]


def test_times_come_back_as_they_were_and_sort_as_text() -> None:
    """Also those without microseconds, and those of another zone."""
    zone = timezone(timedelta(hours=5))
    times = [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 1, 5, 0, 0, 5, tzinfo=zone), now()]
    texts = [to_text(time) for time in times]

    assert times == [from_text(text) for text in texts]
    assert sorted(texts) == texts
    assert {len(texts[0])} == set(map(len, texts))
