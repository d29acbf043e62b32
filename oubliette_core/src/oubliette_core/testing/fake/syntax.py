"""The grammar of the fake container's shell: the part of POSIX ``sh`` that test scripts are written in.

Source: POSIX.1-2017, Shell Command Language, sections 2.2 to 2.10. Left out: aliases, ``<>``, ``>|``, arithmetic
assignment, job control.
"""

from __future__ import annotations

import re

from oubliette_core.testing.fake.script import (
    AndOr,
    Arithmetic,
    Case,
    Command,
    For,
    Function,
    Group,
    If,
    Literally,
    Loop,
    Parameter,
    Part,
    Pipeline,
    Redirect,
    Redirected,
    Script,
    Simple,
    Substitution,
    Word,
)

__all__ = ["ShellSyntaxError", "parse", "parse_text"]

_RESERVED = {"if", "then", "else", "elif", "fi", "do", "done", "case", "esac", "while", "until", "for", "{", "}", "!"}
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PARAMETER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*|[0-9]|[@*#?$!-]")
_BRACED = re.compile(r"(#?)([A-Za-z_][A-Za-z0-9_]*|[0-9]+|[@*#?$!-])(:?[-=?+]|%%?|##?)?")
_REDIRECT = re.compile(r"([0-9]?)(<<-?|>>|<>|[<>]&|>\||[<>])")
_ENDS_WORD = " \t\n;&|<>()"


class ShellSyntaxError(Exception):
    """The text is no script."""


def parse(text: str) -> Script:
    """Parse a whole script. :raises ShellSyntaxError: it is none."""
    parser = _Parser(text)
    script = parser.script(())
    if parser.position < len(parser.text):
        raise ShellSyntaxError(f'syntax error: unexpected "{parser.text[parser.position]}"')
    return script


def parse_text(text: str) -> Word:
    """Parse the text of a here-document, in which only ``$``, backquote and backslash are special."""
    return _Parser(text).quoted_text(None)


class _Parser:
    """Recursive descent over the text itself: what a character means depends on where it stands."""

    def __init__(self, text: str, position: int = 0) -> None:
        self.text = text
        self.position = position

    # -- Lists and pipelines --------------------------------------------------------------------------------------

    def script(self, ends: tuple[str, ...]) -> Script:
        """Parse up to one of the reserved words or characters in ``ends``, which is left unread."""
        items: list[tuple[AndOr, bool]] = []
        while True:
            self._skip(newlines=True)
            if self.position >= len(self.text) or self._at_end(ends):
                return Script(tuple(items))
            item = self._and_or()
            background = self._take("&")
            if not background:
                self._take_separator(ends)
            else:
                self._blank()
            items.append((item, background))

    def _at_end(self, ends: tuple[str, ...]) -> bool:
        rest = self.text[self.position :]
        for end in ends:
            if rest.startswith(end):
                after = rest[len(end) : len(end) + 1]
                if not end.isalpha() or not after or after in _ENDS_WORD:
                    return True
        return False

    def _take_separator(self, ends: tuple[str, ...]) -> None:
        self._blank()
        here = self.text[self.position : self.position + 1]
        if here == ";" and not self.text.startswith(";;", self.position):
            self.position += 1
        elif here not in ("", "\n", ")", ";") and not self._at_end(ends):
            raise ShellSyntaxError(f'syntax error: unexpected "{here}"')

    def _and_or(self) -> AndOr:
        first = self._pipeline()
        rest: list[tuple[str, Pipeline]] = []
        while True:
            self._blank()
            operator = self.text[self.position : self.position + 2]
            if operator not in ("&&", "||"):
                return AndOr(first, tuple(rest))
            self.position += 2
            self._skip(newlines=True)
            rest.append((operator, self._pipeline()))

    def _pipeline(self) -> Pipeline:
        negated = self._take_word("!")
        commands = [self._command()]
        while True:
            self._blank()
            if not self.text.startswith("|", self.position) or self.text.startswith("||", self.position):
                return Pipeline(tuple(commands), negated)
            self.position += 1
            self._skip(newlines=True)
            commands.append(self._command())

    # -- Commands -------------------------------------------------------------------------------------------------

    def _command(self) -> Command:
        command = self._compound()
        if command is None:
            return self._function() or self._simple()
        redirects: list[Redirect] = []
        while self._redirect(redirects):
            pass
        return Redirected(command, tuple(redirects)) if redirects else command

    def _compound(self) -> Command | None:
        self._blank()
        if self._take("("):
            return Group(self._body((")",)), subshell=True)
        if self._take_word("{"):
            return Group(self._body(("}",)), subshell=False)
        if self._take_word("if"):
            return self._if()
        for word in ("while", "until"):
            if self._take_word(word):
                condition = self._body(("do",))
                return Loop(condition, self._body(("done",)), until=word == "until")
        if self._take_word("for"):
            return self._for()
        return self._case() if self._take_word("case") else None

    def _body(self, ends: tuple[str, ...]) -> Script:
        script = self.script(ends)
        for end in ends:
            if self._at_end((end,)):
                self.position += len(end)
                return script
        raise ShellSyntaxError(f'syntax error: unexpected end of file (expecting "{ends[0]}")')

    def _if(self) -> If:
        branches, otherwise = [], None
        while True:
            condition = self._body(("then",))
            body = self.script(("elif", "else", "fi"))
            branches.append((condition, body))
            if self._take_word("elif"):
                continue
            if self._take_word("else"):
                otherwise = self._body(("fi",))
            elif not self._take_word("fi"):
                raise ShellSyntaxError('syntax error: unexpected end of file (expecting "fi")')
            return If(tuple(branches), otherwise)

    def _for(self) -> For:
        self._blank()
        name = self._match(_NAME)
        self._skip(newlines=True)
        words = None
        if self._take_word("in"):
            words = tuple(self._words())
        self._take(";")
        self._skip(newlines=True)
        if not self._take_word("do"):
            raise ShellSyntaxError('syntax error: expecting "do"')
        return For(name, words, self._body(("done",)))

    def _words(self) -> list[Word]:
        words: list[Word] = []
        while True:
            self._blank()
            word = self._word()
            if word is None:
                return words
            words.append(word)

    def _case(self) -> Case:
        self._blank()
        word = self._word() or Word(())
        self._skip(newlines=True)
        if not self._take_word("in"):
            raise ShellSyntaxError('syntax error: expecting "in"')
        branches: list[tuple[tuple[Word, ...], Script]] = []
        while True:
            self._skip(newlines=True)
            if self._take_word("esac"):
                return Case(word, tuple(branches))
            self._take("(")
            patterns = self._patterns()
            body = self.script((";;", "esac"))
            if self.text.startswith(";;", self.position):
                self.position += 2
            branches.append((patterns, body))

    def _patterns(self) -> tuple[Word, ...]:
        patterns = []
        while True:
            self._blank()
            pattern = self._word()
            if pattern is None:
                raise ShellSyntaxError("syntax error: expecting a pattern")
            patterns.append(pattern)
            self._blank()
            if self._take(")"):
                return tuple(patterns)
            if not self._take("|"):
                raise ShellSyntaxError('syntax error: expecting ")"')

    def _function(self) -> Function | None:
        match = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)[ \t]*\([ \t]*\)").match(self.text, self.position)
        if match is None:
            return None
        self.position = match.end()
        self._skip(newlines=True)
        return Function(match[1], self._command())

    def _simple(self) -> Simple:
        assignments: list[tuple[str, Word]] = []
        words: list[Word] = []
        redirects: list[Redirect] = []
        while True:
            self._blank()
            if self._redirect(redirects):
                continue
            if not words and (assignment := self._assignment()) is not None:
                assignments.append(assignment)
                continue
            word = self._word()
            if word is None:
                break
            if not words and not assignments and word.plain in _RESERVED:
                raise ShellSyntaxError(f'syntax error: unexpected "{word.plain}"')
            words.append(word)
        if not (assignments or words or redirects):
            raise ShellSyntaxError(f'syntax error: unexpected "{self.text[self.position : self.position + 1]}"')
        return Simple(tuple(assignments), tuple(words), tuple(redirects))

    def _assignment(self) -> tuple[str, Word] | None:
        match = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=").match(self.text, self.position)
        if match is None:
            return None
        self.position = match.end()
        return match[1], self._word() or Word(())

    def _redirect(self, redirects: list[Redirect]) -> bool:
        self._blank()
        match = _REDIRECT.match(self.text, self.position)
        if match is None:
            return False
        self.position = match.end()
        self._blank()
        number = int(match[1]) if match[1] else (0 if match[2].startswith("<") else 1)
        target = self._word()
        if target is None:
            raise ShellSyntaxError("syntax error: a redirection without a target")
        if match[2].startswith("<<"):
            target = self._here_document(target, strip=match[2] == "<<-")
            redirects.append(Redirect(number, "<<", target))
        else:
            redirects.append(Redirect(number, match[2].replace(">|", ">"), target))
        return True

    def _here_document(self, delimiter: Word, *, strip: bool) -> Word:
        """Cut the document out of the lines that follow; several on one line follow one another."""
        end = "".join(part.text for part in delimiter.parts if isinstance(part, Literally))
        start = self.text.find("\n", self.position)
        lines: list[str] = []
        position = len(self.text) if start < 0 else start + 1
        while position < len(self.text):
            line, newline, _ = self.text[position:].partition("\n")
            position += len(line) + len(newline)
            line = line.lstrip("\t") if strip else line
            if line == end:
                break
            lines.append(line + newline)
        self.text = self.text[: start + 1] + self.text[position:] if start >= 0 else self.text
        quoted = any(isinstance(part, Literally) and part.quoted for part in delimiter.parts)
        return Word((Literally("".join(lines), quoted=True),)) if quoted else parse_text("".join(lines))

    # -- Words ----------------------------------------------------------------------------------------------------

    def _word(self, ends: str = _ENDS_WORD) -> Word | None:
        parts: list[Part] = []
        start = self.position
        while self.position < len(self.text):
            here = self.text[self.position]
            if here in ends:
                break
            if here == "'":
                end = self._find("'", self.position + 1)
                parts.append(Literally(self.text[self.position + 1 : end], quoted=True))
                self.position = end + 1
            elif here == '"':
                self.position += 1
                parts.extend(self.quoted_text('"').parts)
            elif here == "\\":
                if self.text[self.position + 1 : self.position + 2] != "\n":
                    parts.append(Literally(self.text[self.position + 1 : self.position + 2], quoted=True))
                self.position += 2
            elif here in "$`":
                parts.append(self._expansion(quoted=False))
            else:
                parts.append(Literally(self._plain(ends)))
        return Word(tuple(parts)) if self.position > start else None

    def _plain(self, ends: str) -> str:
        start = self.position
        while self.position < len(self.text) and self.text[self.position] not in ends + "'\"\\$`":
            self.position += 1
        return self.text[start : self.position]

    def quoted_text(self, end: str | None) -> Word:
        """Parse up to ``end`` (a double quote), or to the end of a here-document."""
        parts: list[Part] = []
        text = ""
        while True:
            here = self.text[self.position : self.position + 1]
            if (here == "" and end is None) or (here and here == end):
                self.position += 1
                return Word((*parts, Literally(text, quoted=True)))
            if here == "":
                raise ShellSyntaxError("syntax error: unterminated quoted string")
            if here == "\\" and self.text[self.position + 1 : self.position + 2] in ("$", "`", '"', "\\", "\n"):
                following = self.text[self.position + 1]
                text += "" if following == "\n" else '\\"' if end is None and following == '"' else following
                self.position += 2
            elif here in "$`":
                parts += [Literally(text, quoted=True), self._expansion(quoted=True)]
                text = ""
            else:
                text += here
                self.position += 1

    def _expansion(self, *, quoted: bool) -> Part:
        if self._take("`"):
            end = self._find("`", self.position)
            inner, self.position = self.text[self.position : end], end + 1
            return Substitution(parse(re.sub(r"\\([$`\\])", r"\1", inner)), quoted)
        self.position += 1
        if self._take("(("):
            return self._arithmetic(quoted)
        if self._take("("):
            return Substitution(self._body((")",)), quoted)
        if self._take("{"):
            return self._braced(quoted)
        match = _PARAMETER.match(self.text, self.position)
        if match is None:
            return Literally("$", quoted)
        self.position = match.end()
        return Parameter(match[0], quoted=quoted)

    def _arithmetic(self, quoted: bool) -> Arithmetic:
        depth, start = 0, self.position
        while self.position < len(self.text):
            if depth == 0 and self.text.startswith("))", self.position):
                inner = self.text[start : self.position]
                self.position += 2
                return Arithmetic(parse_text(inner), quoted)
            depth += {"(": 1, ")": -1}.get(self.text[self.position], 0)
            self.position += 1
        raise ShellSyntaxError('syntax error: expecting "))"')

    def _braced(self, quoted: bool) -> Parameter:
        match = _BRACED.match(self.text, self.position)
        if match is None:
            raise ShellSyntaxError("syntax error: bad substitution")
        self.position = match.end()
        word = None
        if match[3]:
            word = self._word("}") or Word(())
        if not self._take("}"):
            raise ShellSyntaxError("syntax error: bad substitution")
        return Parameter(match[2], match[3] or "", word, bool(match[1]), quoted)

    # -- Characters -----------------------------------------------------------------------------------------------

    def _blank(self) -> None:
        self._skip(newlines=False)

    def _skip(self, *, newlines: bool) -> None:
        while self.position < len(self.text):
            here = self.text[self.position]
            if here in " \t" or (newlines and here == "\n"):
                self.position += 1
            elif self.text.startswith("\\\n", self.position):
                self.position += 2
            elif here == "#":
                end = self.text.find("\n", self.position)
                self.position = len(self.text) if end < 0 else end
            else:
                return

    def _take(self, text: str) -> bool:
        found = self.text.startswith(text, self.position)
        if found and text == "&" and self.text.startswith("&&", self.position):
            return False
        self.position += len(text) if found else 0
        return found

    def _take_word(self, word: str) -> bool:
        self._blank()
        end = self.position + len(word)
        if not self.text.startswith(word, self.position) or (self.text[end : end + 1] or " ") not in _ENDS_WORD:
            return False
        self.position = end
        return True

    def _match(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self.text, self.position)
        if match is None:
            raise ShellSyntaxError("syntax error: expecting a name")
        self.position = match.end()
        return match[0]

    def _find(self, character: str, start: int) -> int:
        end = self.text.find(character, start)
        if end < 0:
            raise ShellSyntaxError("syntax error: unterminated quoted string")
        return end
