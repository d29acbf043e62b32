"""What an engine says is understood however it is cut, and told in one form."""

from __future__ import annotations

import json
from typing import Any

import pytest

from oubliette_core.errors import RuntimeLostError
from oubliette_core.models import ProgressEvent
from oubliette_docker._progress import PullReport, engine_messages, failure_in


def _report(*messages: dict[str, Any]) -> tuple[PullReport, list[ProgressEvent]]:
    events: list[ProgressEvent] = []
    report = PullReport("box", events.append)
    for message in messages:
        report.take(message)
    return report, events


def test_messages_do_not_depend_on_how_the_stream_is_cut() -> None:
    """Chunks end anywhere, in the middle of a character too; lines end in either way; the last may have no end."""
    messages = [{"status": "ä"}, {"id": "b"}, {"c": [1]}]
    stream = "\r\n".join(json.dumps(message, ensure_ascii=False) for message in messages).encode()

    for size in range(1, len(stream) + 1):
        chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert messages == list(engine_messages(chunks))


@pytest.mark.parametrize("line", [b"<html>\n", b"[1]\n", b'{"half": ', b"x" * (5 * 1024 * 1024)])
def test_what_is_no_message_is_a_lost_engine(line: bytes) -> None:
    """Junk never ends up as a success, nor in all of our memory."""
    with pytest.raises(RuntimeLostError):
        list(engine_messages([line]))


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({"errorDetail": {"message": "a\nb"}, "error": "other"}, "a b"),
        ({"error": "only the old key"}, "only the old key"),
        ({"errorDetail": {"code": 1}, "error": "from the second"}, "from the second"),
        ({"status": "Downloading"}, ""),
    ],
)
def test_a_failure_is_found_under_either_key(message: dict[str, Any], expected: str) -> None:
    """Docker sends both, some Podman versions one."""
    assert expected == failure_in(message)


def test_a_whole_pull_is_told() -> None:
    """Each of the engine's words has its phase."""
    layer = {"id": "abc", "progressDetail": {}}
    report, events = _report(
        {"status": "Pulling from library/box", "id": "latest"},
        {"status": "Already exists", "id": "old", "progressDetail": {}},
        {"status": "Pulling fs layer", **layer},
        {"status": "Waiting", **layer},
        {"status": "Downloading", "id": "abc", "progressDetail": {"current": 5, "total": 10}, "progress": "[=>  ]"},
        {"status": "Retrying in 5 seconds", **layer},
        {"status": "Verifying Checksum", **layer},
        {"status": "Download complete", **layer},
        {"status": "Extracting", "id": "abc", "progressDetail": {"current": 10, "total": 10}},
        {"status": "Pull complete", **layer},
        {"status": "Digest: sha256:123"},
        {"status": "Status: Downloaded newer image for box:latest"},
        {"status": "WARNING: something"},
    )
    report.done()

    assert [
        ("old", "exists", 0, None),
        ("abc", "waiting", 0, None),
        ("abc", "waiting", 0, None),
        ("abc", "downloading", 5, 10),
        ("abc", "retrying", 0, None),
        ("abc", "verifying", 0, None),
        ("abc", "verifying", 0, None),
        ("abc", "extracting", 10, 10),
        ("abc", "done", 0, None),
        ("", "done", 0, None),
    ] == [(event.layer, event.phase, event.current, event.total) for event in events]
    assert (True, "sha256:123", "", "") == (report.confirmed, report.digest, report.failure, report.last_id)


def test_a_beginning_is_told() -> None:
    """Engines say something only when the registry has answered, and Podman not even then."""
    events: list[ProgressEvent] = []
    PullReport("box", events.append).begin()

    assert [ProgressEvent(image="box", phase="resolving")] == events


def test_what_was_told_does_not_go_back() -> None:
    """A download that is begun anew must not make a progress bar run backwards."""
    steps = [(5, 10), (9, 10), (1, 10), (10, 10)]
    _, events = _report(
        *({"status": "Downloading", "id": "a", "progressDetail": {"current": c, "total": t}} for c, t in steps)
    )

    assert [5, 9, 9, 10] == [event.current for event in events]


def test_the_end_of_a_podman_pull_names_the_image() -> None:
    """It sends neither digest nor status; its last message has the image's id."""
    report, _ = _report({"status": "Downloading", "id": "layer"}, {"status": "Download complete", "id": "7e8c60095a9d"})
    broken, _ = _report({"status": "Download complete", "id": "layer"}, {"error": "manifest unknown"})

    assert ("7e8c60095a9d", False) == (report.last_id, report.confirmed)
    assert ("", "manifest unknown") == (broken.last_id, broken.failure)


@pytest.mark.parametrize("detail", [None, 5, {"current": "x", "total": -1}, {"current": None}])
def test_numbers_that_are_none_are_left_out(detail: object) -> None:
    """An engine that counts oddly does not end a pull."""
    _, events = _report({"status": "Downloading", "id": "a", "progressDetail": detail})

    assert [(0, None)] == [(event.current, event.total) for event in events]
