"""What ends a command early, with its exit status."""

from __future__ import annotations

FINDING = 1
USAGE = 2
ENVIRONMENT = 3


class CommandError(Exception):
    """Ends the command with a message for the user: what is wrong, then what to do next."""

    def __init__(self, message: str, hint: str = "", status: int = ENVIRONMENT) -> None:
        super().__init__(message)
        self.hint = hint
        self.status = status
