"""Syntax of the CEL expressions in Telemetry."""

from __future__ import annotations

from functools import lru_cache

MAX_EXPRESSION = 16384
"""Characters of one expression."""


@lru_cache(maxsize=1024)
def expression_problem(text: str) -> str:
    """Why ``text`` is no Common Expression Language expression, or an empty string.

    Only the syntax is checked: names are resolved by the proxy for each request.
    """
    if len(text) > MAX_EXPRESSION:
        return f"{len(text)} characters, at most {MAX_EXPRESSION} are read"
    # Here, because the library takes 0.2 s to load and most meshes have no expression.
    import cel

    try:
        cel.compile(text)
    except ValueError as error:
        return _first_line(str(error))
    return ""


def _first_line(message: str) -> str:
    _, _, found = message.partition("ERROR: <input>:")
    return found.partition("\n")[0] or message.partition("\n")[0]
