"""The program behind the command: hands its words, environment and streams to the server, and ends as that says.

Hundreds of tests make thousands of calls, and importing the emulator takes longer than most of them. So this imports
only modules that are built in or are C, and is run by itself: ``python -I -S client.py SOCKET ARGUMENTS...``.
"""

import _signal  # type: ignore[import-not-found] # typeshed has only the module around it
import _socket
import marshal
import posix
import sys

_FORWARDED = (2, 15, 28)  # SIGINT, SIGTERM, SIGWINCH: by number, because the names take an import


def _main() -> None:
    server = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    server.connect(sys.argv[1])

    def forward(number: int, _frame: object) -> None:
        try:
            server.send(bytes([number]))
        except OSError:  # it has ended, and is about to say so
            return

    call = marshal.dumps((sys.argv[2:], posix.environ, posix.getcwd()))
    streams = b"".join(number.to_bytes(4, sys.byteorder) for number in (0, 1, 2))
    server.sendmsg([len(call).to_bytes(4, "big")], [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, streams)])
    server.sendall(call)
    for number in _FORWARDED:
        _signal.signal(number, forward)
    code = server.recv(1)
    posix._exit(code[0] if code else 255)


if __name__ == "__main__":
    _main()
