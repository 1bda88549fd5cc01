"""Path templates of AuthorizationPolicy: ``/a/{*}/b/{**}``."""

from __future__ import annotations

import re

ONE_SEGMENT = "{*}"
ANY_SEGMENTS = "{**}"

_LITERAL = re.compile(r"[A-Za-z0-9\-._~%!$&'()+,;:@=]+")


def is_path_template(path: str) -> bool:
    """Whether ``path`` is matched as a template and not as text with ``*`` at an end."""
    return ONE_SEGMENT in path or ANY_SEGMENTS in path


def path_template_problem(path: str) -> str:
    """Why ``path`` is not a usable path or template, or an empty string.

    Operators stand alone between slashes, ``{**}`` is the last of them, and the segments of a
    template are characters of an RFC 3986 ``pchar`` (without ``*``); Envoy's ``uri_template``
    path matcher takes no more.
    """
    template = is_path_template(path)
    closed = False
    for segment in path.strip("/").split("/"):
        if segment in (ONE_SEGMENT, ANY_SEGMENTS):
            if closed:
                return f'"{path}": {ANY_SEGMENTS} must be the last operator'
            closed = segment == ANY_SEGMENTS
        elif "{" in segment or "}" in segment:
            return f'"{path}": a segment is {ONE_SEGMENT}, {ANY_SEGMENTS} or text without braces'
        elif template and not _LITERAL.fullmatch(segment):
            return f'"{path}": segment "{segment}" may not stand in a path template'
    return ""
