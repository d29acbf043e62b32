"""The fake container's shell does what the shell of this machine does: scripts are tested on both."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from oubliette_core import ContainerSpec, ExecSpec, Runtime, RuntimeSettings, build_runtime
from oubliette_core.testing.fake import FakeRuntime

IMAGE = "example.com/shell:1"
SCRIPTS = (
    # Words and quoting.
    "echo a  b   c",
    "printf '%s|' \"a b\" 'c  d' e\\ f; echo",
    'printf "%s|" "" \'\' x"y"z; echo',
    'printf \'%s|\' "\\$HOME \\"q\\" \\\\ \\a"; echo',
    "echo one#two # three",
    "echo a\\\nb",
    'x="a  b"; printf "[%s]" $x "$x"; echo',
    'set -- a "b c" d; printf "[%s]" "$@"; printf "[%s]" "$*"; printf "[%s]" $*; echo $#',
    'set -- a b c; shift; echo "$1 $2 $#"; shift 2; echo $#',
    'set --; printf "[%s]" "$@"; echo; for x; do echo never; done',
    'x=" a b "; printf "[%s]" -$x- ; echo',
    "printf '%s|' ~root/x '~' \"~\" | grep -c .",
    "echo 世界 grüße",
    # Parameters.
    "unset x; echo ${x-unset} ${x:-empty} ${x+set}.; x=; echo ${x-unset} ${x:-empty} ${x+set} ${x:+full}.",
    "echo ${x:=given}; echo $x",
    "unset x; (: ${x:?is needed}) 2>/dev/null; echo $?",
    "x=/usr/local/bin/tool.tar.gz; echo ${x##*/} ${x#*/} ${x%.*} ${x%%.*} ${#x}",
    'x="a*b"; echo "${x#a\\*}" "${x%"*b"}"',
    'x=abc; echo ${x}d ${x#a}${x%c} "${x:-\'no\'}" ${y:-"$x"}',
    "f() { echo $1 $#; return 3; }; f a b; echo $?",
    "false; echo $?; true; echo $?; (exit 7); echo $?",
    "x=1; (x=2; echo $x); echo $x",
    "x=1; { x=2; }; echo $x",
    "x=a env | grep ^x=; echo ${x-unset}",
    "export y=b; env | grep ^y=; sh -c 'echo $y'",
    "set -u; (echo $nothing) 2>/dev/null || echo refused; echo ${nothing:-fine}",
    # Arithmetic.
    "echo $((1+2*3)) $(( (1+2)*3 )) $((7/2)) $((-7/2)) $((-7%3)) $((1<<4|3)) $((5>3)) $((2==3)) $((!0)) $((~5))",
    "x=4; y=$((x*x-1)); echo $y $(($y+x)) $((y>10 && x<5)) $((x<3 || y<3))",
    "i=0; while [ $i -lt 5 ]; do i=$((i+1)); [ $i = 3 ] && continue; echo $i; [ $i = 4 ] && break; done",
    # Substitution.
    'echo "$(echo a; echo b)" $(echo c; echo d)',
    "x=$(printf 'a\\n\\n\\n'); echo \"[$x]\"; x=`echo b`; echo $x",
    'echo "a $(echo "b $(echo "c")")"',
    "x=$(exit 5); echo $?; x=$(echo out; exit 6) || echo $? $x",
    # Lists, pipelines and compound commands.
    "true && echo yes || echo no; false && echo yes || echo no; ! true; echo $?; ! false && echo negated",
    "echo one | cat | tr a-z A-Z; false | true; echo $?; true | false; echo $?",
    "seq 1 10 | while read -r n; do [ $((n%2)) = 0 ] && echo $n; done; echo end",
    "printf 'a b c\\n' | { read -r first rest; echo \"$first|$rest\"; }",
    "printf 'no newline' | { read -r x; echo \"$? $x\"; }",
    "if false; then echo a; elif true; then echo b; else echo c; fi; if false; then :; fi; echo $?",
    'until [ -n "$x" ]; do x=1; done; echo $x',
    "for x in a 'b c' $(echo d e); do echo \"<$x>\"; done",
    "for a in 1 2; do for b in x y; do [ $b = y ] && continue 2; echo $a$b; done; done",
    "case abc in a) echo 1;; a*|z) echo 2;; *) echo 3;; esac; case 'a*' in 'a*') echo literal;; esac",
    "case x in [a-w]) echo 1;; [!a-w]) echo 2;; esac; case '' in ?) echo 1;; *) echo 2;; esac",
    "(echo a; echo b) | wc -l | tr -d ' '; { echo c; echo d; } | tail -n 1",
    "f() { f2; }; f2() { echo deep; }; f; f() { echo again; }; f",
    # Redirections.
    "echo out; echo err >&2",
    "{ echo out; echo err >&2; } 2>&1 | sort",
    "echo a > f; echo b >> f; cat < f; cat f 2>/dev/null; rm f; cat f 2>/dev/null; echo $?",
    "{ echo 1; echo 2 >&2; } > f 2>&1; sort f; rm f",
    "exec 3> f; echo three >&3; exec 3>&-; cat f; rm f",
    "cat <<EOF\nx is ${x:-none} $((1+1)) \\$x\nEOF\ncat <<'EOF'\n$x `no`\nEOF",
    "cat <<-EOF\n\ttabs gone\n\tEOF\necho after",
    "cat <<A; cat <<B\nfirst\nA\nsecond\nB",
    "echo x > /dev/null; cat /dev/null; echo $?; (echo lost >&-) 2>/dev/null; echo done",
    "echo data | cat - /dev/null; : > empty; wc -c < empty | tr -d ' '; rm empty",
    # Files and patterns.
    "mkdir d; touch d/b d/a d/.h; echo d/*; echo d/[!b]; echo d/.*h; echo 'd/*' d/no*; rm -r d; ls",
    'mkdir -p x/y; cd x/y; pwd | grep -c x/y; cd ..; cd - > /dev/null; basename "$PWD"; cd ../..; rm -r x; ls',
    "[ -f nothing ]; echo $?; touch f; [ -f f ] && [ ! -s f ] && [ -r f -a -w f ] && echo file; rm f",
    "[ a = a ]; echo $?; [ a != a ]; echo $?; [ 10 -gt 9 ]; echo $?; [ '' ]; echo $?; [ -z '' ]; echo $?",
    "ln -s target link; readlink link; [ -h link ] && echo link; [ -e link ] || echo dangling; rm link",
    "echo 1 > a; cp a b; mv b c; cat c; chmod 600 c; ls -l c | cut -c1-10; rm a c",
    # Exit, options, traps, background.
    "echo before; exit 4; echo after",
    "set -e; true; if false; then :; fi; false || true; ! true; echo here; false; echo never",
    "set -e; f() { false; echo still; }; f && echo yes; (false; echo never); echo never",
    "trap 'echo bye' EXIT; echo hi; exit 3",
    "trap 'echo got' TERM; kill -TERM $$; echo on",
    "trap '' TERM; kill -TERM $$; echo deaf; trap - TERM; kill -TERM $$; echo never",
    "sleep 0.05 & wait $!; echo $?; (exit 9) & wait $!; echo $?; wait; echo $?",
    "kill -9 $$; echo never",
    "sh -c 'exit 3'; echo $?; (sh -c 'kill -15 $$'; echo $?) 2>/dev/null",
    "sh -c 'echo $0 $1 $#' name a b",
    "eval 'x=1; echo $x'; eval echo '$x'; x='echo hidden'; $x",
    "echo 'echo sourced $1' > s; . ./s; sh ./s arg; rm s",
    "printf '#!/bin/sh\\necho script $1\\n' > s; chmod +x s; ./s a; rm s; ./s 2>/dev/null; echo $?",
    "nosuchcommand 2>/dev/null; echo $?; command -v nosuchcommand; echo $?",
    "exec sh -c 'echo replaced'; echo never",
    "yes | head -n 2; echo $?",
    "printf '%5d|%-5s|%05.1f|%x|%%|%c\\n' 42 ab 3.14 255 xyz; printf '%s-%s\\n' a b c; printf '\\101\\t\\n'",
)
PROGRAMS = (
    "printf 'b 2\\na 10\\nc 1\\n' | sort; printf '10\\n9\\n' | sort -n; printf 'a\\na\\nb\\n' | uniq -c | tr -s ' '",
    "printf 'a:b:c\\n' | cut -d: -f2; printf 'abcdef\\n' | cut -c2-4; printf 'a,b,c,d\\n' | cut -d, -f1,3-",
    "seq 5 | head -n 2; seq 5 | tail -n 2; seq 5 | tail -n +4; printf abcdef | head -c 3; printf abcdef | tail -c 2",
    "printf 'one\\ntwo\\n' | grep -n t; printf 'a\\n' | grep -q b; echo $?; printf 'x.y\\nxzy\\n' | grep -F x.y",
    "printf 'ab\\ncd\\n' | grep -v b; printf 'aXb\\n' | grep -o 'X.*'; echo aab | grep -E 'a+b'",
    "echo hello | sed 's/l/L/'; echo hello | sed 's/l/L/g'; seq 3 | sed -n 2p; seq 3 | sed /2/d",
    "echo abc | sed 's/\\(a\\)\\(b\\)/\\2\\1/'; echo abc | sed 's/b/[&]/'; echo a/b | sed 's|/|_|'",
    "printf 'hello' | sha256sum; printf 'hello' | md5sum | cut -d' ' -f1; printf 'aGk=' | base64 -d; echo",
    "printf 'a b\\nc\\n' | xargs echo; printf 'a b c' | xargs -n 1 echo; echo abc | tr -d b; echo aabb | tr -s a",
    "basename /a/b.c .c; dirname /a/b; seq 3 -1 1; printf 'x' | tee f; cat f; rm f; echo",
    "dd if=/dev/zero bs=1k count=3 2>/dev/null | wc -c | tr -d ' '",
    "timeout 5 echo quick; timeout 0.05 sleep 5; echo $?; env -i X=1 sh -c 'echo $X ${HOME-none}'",
)


@pytest.fixture(scope="module")
def runtime() -> Iterator[Runtime]:
    """A runtime with one running container, ``shell``."""
    fake = FakeRuntime(RuntimeSettings())
    fake.registry.publish(IMAGE)
    with build_runtime("fake", fake) as runtime:
        runtime.pull(IMAGE)
        runtime.create(ContainerSpec(image=IMAGE, name="shell", command=("sleep", "infinity")))
        runtime.start("shell")
        yield runtime
    fake.engine.shut_down()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_does_the_same_here_and_there(runtime: Runtime, tmp_path: Path, script: str) -> None:
    """Output, exit code and order are those of the real shell."""
    _compare(runtime, tmp_path, script)


@pytest.mark.skipif(sys.platform != "linux", reason="other systems' programs differ from those of a container")
@pytest.mark.parametrize("script", PROGRAMS)
def test_a_program_does_the_same_here_and_there(runtime: Runtime, tmp_path: Path, script: str) -> None:
    """The fake's programs do what those of this machine do."""
    _compare(runtime, tmp_path, script)


def _compare(runtime: Runtime, tmp_path: Path, script: str) -> None:
    runtime.exec("shell", ExecSpec(command=("mkdir", "-p", "/job")))
    env = {"HOME": "/", "PATH": "/usr/local/bin:/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
    real = subprocess.run(["/bin/sh", "-c", script], cwd=tmp_path, env=env, capture_output=True, check=False)
    code = real.returncode if real.returncode >= 0 else 128 - real.returncode
    fake = runtime.exec("shell", ExecSpec(command=("sh", "-c", script), workdir="/job", env=env, timeout=30))
    runtime.exec("shell", ExecSpec(command=("rm", "-rf", "/job")))

    assert (code, real.stdout) == (fake.exit_code, fake.stdout), (real.stderr, fake.stderr)
    assert bool(real.stderr) == bool(fake.stderr), (real.stderr, fake.stderr)


@pytest.mark.parametrize("script", ["if", "echo 'open", "case x in", "a | | b", "( echo", ";;", "fi", "echo $(", "${x"])
def test_what_is_no_script_is_refused(runtime: Runtime, script: str) -> None:
    """A syntax error is a message and code 2, as of the real shell."""
    real = subprocess.run(["/bin/sh", "-c", script], capture_output=True, check=False)
    fake = runtime.exec("shell", ExecSpec(command=("sh", "-c", script), timeout=30))

    assert (real.returncode, b"") == (fake.exit_code, fake.stdout)
    assert b"syntax error" in fake.stderr
