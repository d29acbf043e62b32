"""The versions that can be emulated."""

VERSIONS = {"0.9": (0, 9, 0), "0.12": (0, 12, 3), "1.2": (1, 2, 2), "1.4": (1, 4, 1)}
COMMIT = "0190097d06df0b9065f4c2d2c7873c649d81d493"


class Profile:
    """One version of the command.

    :ivar version: major, minor and patch.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.version = VERSIONS[name]

    def at_least(self, *version: int) -> bool:
        """Whether this version is `version` or later."""
        return self.version >= version

    @property
    def text(self) -> str:
        """The version as it is printed."""
        return ".".join(map(str, self.version))

    def line(self, program: str) -> str:
        """The long form of the version, of the command or of the service."""
        return f"{program} version {self.text} (build: release, commit: {COMMIT[:7]})"
