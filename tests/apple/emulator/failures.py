"""How the command fails: exit codes, and the shapes of its error texts."""

from tests.apple.emulator.profiles import Profile

_ADVICE = "Ensure container system service has been started with `container system start`."


class Failure(Exception):  # noqa: N818 - the command prints these; they are no errors of ours
    """A failure at run time: exit code 1.

    :param code: one of the command's classes of errors. :param cause: the failure behind it.
    """

    def __init__(self, code: str, message: str, cause: "Failure | None" = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.cause = cause

    def coded(self) -> str:
        """The form with the code, as causes have it; quotes are not escaped."""
        cause = f' (cause: "{self.cause.coded()}")' if self.cause else ""
        return f'{self.code}: "{self.message}"{cause}'

    def text(self, profile: Profile) -> str:
        """What follows `Error: ` on standard error."""
        coded = self.coded()
        if "XPC connection error" in coded:
            advised = f"{coded}\n{_ADVICE}"
            return advised if profile.at_least(0, 10) else f'interrupted: "{advised}"'
        if not profile.at_least(0, 10):
            return coded
        cause = f' (cause: "{self.cause.coded()}")' if self.cause else ""
        return f"{self.message}{cause}"


class Failures(Failure):
    """What several ids of one call failed with."""

    def __init__(self, failures: list[Failure]) -> None:
        super().__init__(failures[0].code, failures[0].message)
        self.failures = failures

    def text(self, profile: Profile) -> str:
        """One line for each, with its code; the advice once."""
        coded = [failure.coded() for failure in self.failures]
        advice = [_ADVICE] if any("XPC connection error" in line for line in coded) else []
        return "\n".join([*coded, *advice])


class UsageError(Exception):
    """Arguments that the command does not take: exit code 64.

    :param usage: how it is to be called, without the program's name; None where nothing is printed about it.
    """

    def __init__(self, text: str, usage: str | None = None) -> None:
        super().__init__(text)
        self.text = text
        self.usage = usage


def unreachable() -> Failure:
    """The failure of every call to a service that does not run."""
    return Failure("interrupted", "XPC connection error: Connection invalid")


def interrupted() -> Failure:
    """The failure of a call whose other side went away."""
    return Failure("interrupted", "XPC connection error: Connection interrupted")
