"""`python -m tests.engine`: an engine and a registry for one command, or for as long as one works on the code."""

import argparse
import os
import shlex
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import FrameType

from tests.engine import Engine, EngineUnavailableError, host, running_engine
from tests.engine.order import Order
from tests.engine.provide import answer_of, engine_from, engine_programs, start_keeper


def main() -> int:
    """Parse the command line, act, and turn what is expected to go wrong into one message."""
    arguments = _parser().parse_args()
    try:
        result: int = arguments.action(arguments)
    except EngineUnavailableError as error:
        print(f"tests.engine: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return result


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.engine", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    run = commands.add_parser("run", help="run a command with DOCKER_HOST and OUBLIETTE_TEST_* set")
    run.add_argument("command", nargs=argparse.REMAINDER, metavar="-- CMD...")
    run.set_defaults(action=_run)
    start = commands.add_parser("start", help="start a private engine that stays; DIR/env has the exports")
    start.add_argument("--dir", type=Path, required=True)
    start.add_argument("--registry-port", type=int, default=0, help="default: a free one")
    start.set_defaults(action=_start)
    stop = commands.add_parser("stop", help="end the engine of DIR and remove everything of it")
    stop.add_argument("--dir", type=Path, required=True)
    stop.set_defaults(action=_stop)
    return parser


def _run(arguments: argparse.Namespace) -> int:
    command = arguments.command[1:] if arguments.command[:1] == ["--"] else arguments.command
    if not command:
        print("tests.engine: run needs a command: python -m tests.engine run -- CMD...", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    if shutil.which(command[0]) is None:
        print(f"tests.engine: there is no program {command[0]}", file=sys.stderr)
        return 127
    with running_engine() as engine:
        return _run_beside(engine, command)


def _run_beside(engine: Engine, command: list[str]) -> int:
    """Run the command to its end. Signals must not raise here, or one could part us from a child just started."""
    children: list[subprocess.Popen[bytes]] = []
    asked = threading.Event()

    def end(number: int, _frame: FrameType | None) -> None:
        asked.set()
        if number == signal.SIGTERM:  # with Ctrl-C the terminal tells the command itself
            for child in children:
                child.terminate()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    with subprocess.Popen(command, env={**os.environ, **engine.environment()}) as child:
        children.append(child)
        if asked.is_set():
            child.terminate()
        code = child.wait()
    return code if code >= 0 else 128 - code


def _start(arguments: argparse.Namespace) -> int:
    state: Path = arguments.dir.absolute()
    programs = engine_programs()
    if not host.discard(state, programs):
        raise EngineUnavailableError(f"the engine in {state} runs already: `. {state}/env` leads to it")
    state.mkdir(mode=0o700, parents=True)
    order = Order(root=str(programs.root), state=str(state), registry_port=arguments.registry_port, detached=True)
    ready = answer_of(start_keeper(order))
    engine = engine_from(ready["docker_host"], ready["registry"], programs)
    exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in engine.environment().items())
    (state / "env").write_text(exports, encoding="utf-8")
    print(exports, end="")
    return 0


def _stop(arguments: argparse.Namespace) -> int:
    state: Path = arguments.dir.absolute()
    host.end_keeper(state)
    host.discard(state, engine_programs())
    return 0


if __name__ == "__main__":
    sys.exit(main())
