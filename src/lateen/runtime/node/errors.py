"""What can go wrong in the local runtime's lower half, each with what to do next."""

from __future__ import annotations


class NodeError(Exception):
    """Base of all errors of this package. The text is for users; ``hint`` says what to do next."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class NodeUnsupportedError(NodeError):
    """The kernel does not let this user make namespaces, or lacks a feature."""


class NodeStartError(NodeError):
    """The node, or the program in it, ended before it was ready."""


class SandboxError(NodeError):
    """A pod's sandbox or one of its containers could not be made."""


class CommandNotFoundError(SandboxError):
    """The program of a container or of `exec` does not exist or may not be run."""


class PortTakenError(NodeError):
    """A port on the host is in use already."""
