"""The errors that end a command with a message instead of a traceback."""


class DevsupError(Exception):
    """What happened, what to do about it, and the exit code of the command that met it.

    `problem` and `remedy` are whole sentences; `remedy` may be empty. `str()` gives both, a space between.
    """

    def __init__(self, problem: str, remedy: str = "", exit_code: int = 1) -> None:
        super().__init__(problem, remedy, exit_code)
        self.problem = problem
        self.remedy = remedy
        self.exit_code = exit_code

    def __str__(self) -> str:
        return f"{self.problem} {self.remedy}".rstrip()


class UsageError(DevsupError):
    """The command line or the config file asks for something that cannot be; exit code 2."""

    def __init__(self, problem: str, remedy: str = "", exit_code: int = 2) -> None:
        super().__init__(problem, remedy, exit_code)
