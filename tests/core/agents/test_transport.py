"""Messages to and from a program that may be hostile."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from oubliette_core.agents import transport as transport_module
from oubliette_core.agents.transport import ProcessTransport
from tests.core.cli.local_process import LocalProcess, python

Act = Callable[[ProcessTransport], Awaitable[Any]]


def talk(process: LocalProcess, act: Act, is_full: Callable[[], bool] = lambda: False) -> Any:
    """Do something with a transport to a process."""

    async def main() -> Any:
        transport = ProcessTransport(process, on_line=lambda _line: False, is_full=is_full, on_end=lambda: None)
        try:
            return await asyncio.wait_for(act(transport), 30)
        finally:
            await transport.close()
            process.kill()

    with process:
        return asyncio.run(main())


async def everything(transport: ProcessTransport) -> list[dict[str, Any]]:
    """Receive all messages."""
    found = []
    while (message := await transport.receive()) is not None:
        found.append(message)
    return found


def test_messages_come_in_order_and_whole() -> None:
    """However many, however long, wherever the pipe cuts them."""
    program = (
        "import json\nfor n in range(5000):"
        " print(json.dumps({'method': 'x', 'params': {'n': n, 'text': 'ä' * (n % 97)}}))"
    )
    found = talk(python(program), everything)

    assert list(range(5000)) == [message["params"]["n"] for message in found]


def test_a_message_of_many_megabytes_comes_through() -> None:
    """As one."""
    found = talk(python("print('{\"method\": \"' + 'x' * 5_000_000 + '\"}')"), everything)

    assert [5_000_000] == [len(message["method"]) for message in found]


@pytest.mark.parametrize(
    "line",
    [
        "nothing",
        "[]",
        "7",
        "null",
        '{"method": 5}',
        '{"method": "x", "params": [1]}',
        '{"id": {}, "result": 1}',
        '{"id": [1], "result": 1}',
        '{"id": true, "result": 1}',
        '{"id": 1, "error": "text"}',
        "[" * 100_000,
        '{"a":' * 20_000,
        "\\x00\\xff",
        "",
    ],
)
def test_what_is_no_message_is_passed_over(line: str) -> None:
    """The library takes the shape of messages for granted, and would end the conversation."""
    program = (
        f"import sys; sys.stdout.buffer.write(({line!r} + '\\n').encode('latin-1') + b'{{\"method\": \"good\"}}\\n')"
    )

    assert [{"method": "good"}] == talk(python(program), everything)


def test_a_line_without_an_end_is_not_kept_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    """Such an agent is listened to no more."""
    monkeypatch.setattr(transport_module, "_LONGEST_LINE", 100_000)

    assert [] == talk(python("import sys\nwhile True: sys.stdout.write('x' * 65536)"), everything)


def test_an_agent_that_talks_faster_than_it_is_listened_to_has_to_wait() -> None:
    """What nobody takes is bounded."""
    process = python("import sys\nwhile True: print('{\"method\": \"' + 'x' * 60000 + '\"}')")

    async def wait(transport: ProcessTransport) -> int:
        await transport.receive()
        held = -1
        while held != len(transport._arrived):
            held = len(transport._arrived)
            await asyncio.sleep(0.3)
        return held

    assert 0 < talk(process, wait) < 2000


def test_nothing_is_taken_while_there_is_no_room() -> None:
    """The record of what happened has to keep up."""
    full = [True]

    async def receive(transport: ProcessTransport) -> tuple[bool, dict[str, Any] | None]:
        early = asyncio.ensure_future(transport.receive())
        done, _ = await asyncio.wait({early}, timeout=0.3)
        full[0] = False
        return bool(done), await early

    assert (False, {"method": "x"}) == talk(python('print(\'{"method": "x"}\')'), receive, lambda: full[0])


def test_an_agent_that_reads_nothing_does_not_hold_up_who_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is an error once enough waits for it."""
    monkeypatch.setattr(transport_module, "_UNREAD", 8)

    async def send(transport: ProcessTransport) -> int:
        for number in range(100):
            try:
                await transport.send({"method": "x", "params": {"text": "y" * 100_000}})
            except ConnectionError:
                return number
        return 100

    assert 8 <= talk(python("import time; time.sleep(60)"), send) <= 12


def test_the_last_errors_are_kept_and_no_more() -> None:
    """Of what may be endless."""
    program = "import sys\nfor n in range(20000): print(f'line {n}', file=sys.stderr)"

    async def last(transport: ProcessTransport) -> str:
        await everything(transport)
        while not transport.last_errors.endswith("line 19999"):  # noqa: ASYNC110 - a thread tells nobody
            await asyncio.sleep(0.02)
        return transport.last_errors

    assert len(talk(python(program), last)) < 20_000
