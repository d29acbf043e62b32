"""Programs of the fake container about processes, users and the system."""

from __future__ import annotations

import re
import signal
import time
from pathlib import PurePosixPath

from oubliette_core.testing.fake.builtin import signal_number
from oubliette_core.testing.fake.kernel import EXIT_BY_SIGNAL, Ended, Program, Task
from oubliette_core.testing.fake.shell import NOT_EXECUTABLE, NOT_FOUND, execute, run_shell
from oubliette_core.testing.fake.tools_text import options
from oubliette_core.testing.fake.users import resolve, user_name

__all__ = ["SYSTEM_TOOLS"]

_TIMED_OUT = 124


def _become(task: Task, words: list[str]) -> int:
    """Run a command in this process; tell as a shell does when that is not possible."""
    try:
        program, argv = execute(task, words)
    except OSError as error:
        task.complain(f"can't execute '{words[0]}': {error.strerror}")
        return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
    return task.become(program, argv)


def _start(task: Task, words: list[str]) -> Task | None:
    try:
        program, argv = execute(task, words)
    except OSError as error:
        task.complain(f"can't execute '{words[0]}': {error.strerror}")
        return None
    return task.kernel.spawn(program, argv, parent=task, env=task.env, cwd=task.cwd, who=task.who, streams=task.streams)


def _env(task: Task) -> int:
    words, env = list(task.argv[1:]), dict(task.env)
    while words and words[0].startswith("-"):
        option = words.pop(0)
        if option in ("-i", "-"):
            env = {}
        elif option == "-u":
            env.pop(words.pop(0), None)
    while words and "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        env[name] = value
    if words:
        # The command is looked up with the old PATH, as execvp of the caller does.
        task.env = {"PATH": task.env.get("PATH", ""), **env}
        try:
            program, argv = execute(task, words)
        except OSError as error:
            task.complain(f"can't execute '{words[0]}': {error.strerror}")
            return NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE
        task.env = env
        return task.become(program, argv)
    if task.argv[0].endswith("printenv"):
        return _print_variables(task, task.argv[1:])
    task.write("".join(f"{name}={value}\n" for name, value in env.items()))
    return 0


def _printenv(task: Task) -> int:
    return _print_variables(task, task.argv[1:])


def _print_variables(task: Task, names: tuple[str, ...]) -> int:
    missing = 0
    for name in names or task.env:
        if name in task.env:
            task.write(f"{task.env[name]}\n" if names else f"{name}={task.env[name]}\n")
        else:
            missing = 1
    return missing


def _id(task: Task) -> int:
    found, names = options(task, "unggGr")
    who = resolve(task.files, names[0]) if names else task.who
    if who is None:
        return task.complain(f"unknown user {names[0]}")
    user = user_name(task.files, who.uid)
    if "u" in found:
        task.write(f"{user if 'n' in found else who.uid}\n")
    elif "g" in found or "G" in found:
        task.write(f"{who.gid}\n")
    else:
        task.write(f"uid={who.uid}({user}) gid={who.gid}\n")
    return 0


def _whoami(task: Task) -> int:
    name = user_name(task.files, task.who.uid)
    if name.isdigit():
        return task.complain(f"unknown uid {name}")
    task.write(f"{name}\n")
    return 0


def _su(task: Task) -> int:
    """``su [-] user -c command``, for the superuser."""
    found, words = options(task, "lpm", "cs")
    words = [word for word in words if word != "-"]
    who = resolve(task.files, words[0] if words else "root")
    if who is None:
        return task.complain(f"unknown user {words[0]}")
    if task.who.uid != 0:
        return task.complain("must be suid to work properly")
    task.who = who
    return _become(task, ["/bin/sh", "-c", found["c"]] if "c" in found else ["/bin/sh"])


def _duration(text: str) -> float:
    if text in ("infinity", "inf"):
        return 10.0**9
    match = re.fullmatch(r"([0-9]*\.?[0-9]+)([smhd]?)", text)
    if match is None:
        raise ValueError(f"invalid number '{text}'")
    return float(match[1]) * {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}[match[2]]


def _sleep(task: Task) -> int:
    if len(task.argv) < 2:
        return task.complain("missing operand")
    task.sleep(sum(_duration(word) for word in task.argv[1:]))
    return 0


def _usleep(task: Task) -> int:
    task.sleep(int(task.argv[1]) / 1e6)
    return 0


def _kill(task: Task) -> int:
    words, number = list(task.argv[1:]), int(signal.SIGTERM)
    if words[:1] == ["-l"]:
        task.write(" ".join(each.name.removeprefix("SIG") for each in signal.Signals) + "\n")
        return 0
    if words[:1] in (["-s"], ["-n"]):
        words[:2] = [f"-{words[1]}"]
    if words and words[0].startswith("-") and words[0] != "--":
        named = signal_number(words.pop(0)[1:])
        if named is None:
            return task.complain("bad signal name")
        number = named
    code = 0
    for word in [word for word in words if word != "--"]:
        code |= _kill_one(task, int(word), number)
    return code


def _kill_one(task: Task, pid: int, number: int) -> int:
    kernel = task.kernel
    with kernel.lock:
        targets = [pid] if pid > 0 else [
            each.pid for each in kernel.tasks.values()
            if (each.pid not in (1, task.pid) if pid == -1 else each.group == (-pid or task.group))
        ]  # fmt: skip
        allowed = [each for each in targets if each in kernel.tasks and _may_signal(task, kernel.tasks[each])]
        for each in allowed:
            kernel.signal(each, number)
    if not allowed:
        return task.complain(f"can't kill pid {pid}: No such process")
    task.check()
    return 0


def _may_signal(task: Task, other: Task) -> bool:
    return task.who.uid in (0, other.who.uid)


def _processes(task: Task) -> list[Task]:
    with task.kernel.lock:
        return sorted(task.kernel.tasks.values(), key=lambda each: each.pid)


def _ps(task: Task) -> int:
    found, _ = options(task, "aefAwxul", "op")
    columns = found["o"].split(",") if "o" in found else ["pid", "user", "time", "args"]
    titles = {"args": "COMMAND", "comm": "COMMAND", "cmd": "COMMAND"}
    task.write(" ".join(titles.get(column, column.upper()) for column in columns) + "\n")
    for each in _processes(task):
        values = {
            "pid": f"{each.pid:5}",
            "ppid": str(each.parent.pid if each.parent else 0),
            "pgid": str(each.group),
            "user": user_name(task.files, each.who.uid),
            "uid": str(each.who.uid),
            "time": "0:00",
            "stat": "S",
            "comm": each.argv[0].rpartition("/")[2],
        }
        task.write(" ".join(values.get(column, " ".join(each.argv)) for column in columns) + "\n")
    return 0


def _matching(task: Task, pattern: str, found: dict[str, str]) -> list[Task]:
    others = [each for each in _processes(task) if each is not task]
    if "f" in found:
        return [each for each in others if re.search(pattern, " ".join(each.argv))]
    return [each for each in others if re.search(pattern, each.argv[0].rpartition("/")[2])]


def _pgrep(task: Task) -> int:
    found, words = options(task, "flxa")
    matching = _matching(task, words[0], found)
    for each in matching:
        task.write(f"{each.pid}{' ' + ' '.join(each.argv) if {'l', 'a'} & set(found) else ''}\n")
    return int(not matching)


def _pkill(task: Task) -> int:
    words = list(task.argv[1:])
    number: int | None = int(signal.SIGTERM)
    if words and re.fullmatch("-([0-9]+|[A-Z0-9]{3,})", words[0]):
        number = signal_number(words.pop(0)[1:])
    task.argv = (task.argv[0], *words)
    found, patterns = options(task, "fx")
    matching = _matching(task, patterns[0], found)
    for each in matching:
        if _may_signal(task, each):
            task.kernel.signal(each.pid, number or signal.SIGTERM)
    return int(not matching)


def _setsid(task: Task) -> int:
    words = [word for word in task.argv[1:] if word not in ("-c", "-w")]
    task.group = task.pid
    return _become(task, words)


def _nohup(task: Task) -> int:
    task.ignored.add(int(signal.SIGHUP))
    return _become(task, list(task.argv[1:]))


def _nice(task: Task) -> int:
    _, words = options(task, "", "n")
    return _become(task, words)


def _timeout(task: Task) -> int:
    found, words = options(task, "", "sk")
    seconds, number = _duration(words[0]), signal_number(found.get("s", "TERM"))
    child = _start(task, words[1:])
    if child is None:
        return NOT_FOUND
    if task.kernel.wait(lambda: child.exit_code is not None, timeout=seconds, task=task):
        return child.exit_code or 0
    task.kernel.signal(child.pid, number or signal.SIGTERM)
    if "k" in found and not task.kernel.wait(
        lambda: child.exit_code is not None, timeout=_duration(found["k"]), task=task
    ):
        task.kernel.signal(child.pid, signal.SIGKILL)
        task.wait_for(child)
        return EXIT_BY_SIGNAL + signal.SIGKILL
    task.wait_for(child)
    return _TIMED_OUT


def _date(task: Task) -> int:
    _, words = options(task, "u", "Id")
    now = time.time()
    form = words[0][1:] if words else "%a %b %e %H:%M:%S UTC %Y"
    form = form.replace("%s", str(int(now))).replace("%N", f"{time.time_ns() % 10**9:09}")
    task.write(time.strftime(form, time.gmtime(now)) + "\n")
    return 0


def _hostname(task: Task) -> int:
    task.write(f"{task.kernel.hostname}\n")
    return 0


def _uname(task: Task) -> int:
    found, _ = options(task, "amnrsvpio")
    machine = task.kernel.machine
    values = {"s": "Linux", "n": task.kernel.hostname, "r": "0.0.0-fake", "v": "#1 fake", "m": machine}
    wanted = "snrvm" if "a" in found else "".join(letter for letter in "snrvm" if letter in found) or "s"
    task.write(" ".join(values[letter] for letter in wanted) + "\n")
    return 0


def _tty(task: Task) -> int:
    stream = task.streams.get(0)
    terminal = stream is not None and stream.terminal is not None
    task.write("/dev/pts/0\n" if terminal else "not a tty\n")
    return int(not terminal)


def _stty(task: Task) -> int:
    stream = task.streams.get(0)
    terminal = stream.terminal if stream is not None else None
    if terminal is None:
        return task.complain("standard input: Inappropriate ioctl for device")
    if task.argv[1:2] == ("size",):
        task.write(f"{terminal.rows} {terminal.columns}\n")
    return 0


def _busybox(task: Task) -> int:
    name = task.argv[1] if len(task.argv) > 1 else ""
    program = task.kernel.programs.get(name)
    if program is None:
        task.write(f"{name}: applet not found\n", 2)
        return NOT_FOUND
    return task.become(program, task.argv[1:])


def _basename(task: Task) -> int:
    words = task.argv[1:]
    name = PurePosixPath(words[0]).name or "/"
    task.write((name.removesuffix(words[1]) if len(words) > 1 and name != words[1] else name) + "\n")
    return 0


def _dirname(task: Task) -> int:
    task.write(f"{PurePosixPath(task.argv[1]).parent}\n")
    return 0


def _which(task: Task) -> int:
    code = 0
    for name in task.argv[1:]:
        try:
            path = task.kernel.find(name, path=task.env.get("PATH", ""), cwd=task.cwd, who=task.who)
        except OSError:
            code = 1
            continue
        task.write(f"{path}\n")
    return code


def _xargs(task: Task) -> int:
    found, words = options(task, "0rt", "nI")
    data = task.read_all().decode("utf-8", "surrogateescape")
    items = [item for item in (data.split("\0") if "0" in found else data.split()) if item]
    size = 1 if "I" in found else int(found.get("n") or max(1, len(items)))
    code = 0
    for start in range(0, len(items), size):
        batch = items[start : start + size]
        argv = (
            [word.replace(found["I"], batch[0]) for word in words] if "I" in found else [*(words or ["echo"]), *batch]
        )
        child = _start(task, argv)
        result = NOT_FOUND if child is None else task.wait_for(child)
        code = 123 if result else code
    return code


def _exit_with(code: int) -> Program:
    return lambda _task: code


def _pwd(task: Task) -> int:
    task.write(f"{task.cwd}\n")
    return 0


def _nproc(task: Task) -> int:
    task.write("1\n")
    return 0


def supervise(task: Task) -> int:
    """Be the init process of a container: start its command, hand signals on, end as it ends."""
    forwarded = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
    task.caught |= {int(number) for number in forwarded}
    child = _start(task, list(task.argv[1:]))
    if child is None:
        raise Ended(NOT_FOUND)
    child.group = child.pid
    while (code := task.wait_for(child, interruptible=True)) is None:
        while task.pending:
            task.kernel.signal(child.pid, task.pending.pop(0))
    return code


SYSTEM_TOOLS: dict[str, Program] = {
    "ash": run_shell,
    "basename": _basename,
    "busybox": _busybox,
    "date": _date,
    "dirname": _dirname,
    "env": _env,
    "false": _exit_with(1),
    "hostname": _hostname,
    "id": _id,
    "kill": _kill,
    "nice": _nice,
    "nohup": _nohup,
    "nproc": _nproc,
    "pgrep": _pgrep,
    "pkill": _pkill,
    "printenv": _printenv,
    "ps": _ps,
    "pwd": _pwd,
    "setsid": _setsid,
    "sh": run_shell,
    "sleep": _sleep,
    "stty": _stty,
    "su": _su,
    "sync": _exit_with(0),
    "timeout": _timeout,
    "true": _exit_with(0),
    "tty": _tty,
    "uname": _uname,
    "usleep": _usleep,
    "which": _which,
    "whoami": _whoami,
    "xargs": _xargs,
}
