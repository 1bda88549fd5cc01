"""The command line of :mod:`lateen.workloads.curl`: curl's own option names and meanings."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final


class UsageError(Exception):
    """The command line cannot be used (curl's exit status 2)."""


@dataclass
class Options:
    """What one run was asked to do; times in seconds, 0 for no limit."""

    urls: list[str] = field(default_factory=list)
    method: str = ""
    headers: list[tuple[str, str]] = field(default_factory=list)
    removed_headers: set[str] = field(default_factory=set)
    data: bytes | None = None
    data_in_query: bool = False
    user: str = ""
    user_agent: str = "curl/8.0 (lateen)"
    cookie: str = ""
    cookie_jar: str = ""
    proxy: str = ""
    resolve: dict[tuple[str, int], str] = field(default_factory=dict)
    connect_to: list[tuple[str, str, str, str]] = field(default_factory=list)
    output: list[str] = field(default_factory=list)
    dump_header: str = ""
    write_out: str = ""
    ca_certificate: str = ""
    certificate: str = ""
    key: str = ""
    family: int = 0
    max_time: float = 0.0
    connect_timeout: float = 0.0
    retries: int = 0
    max_redirects: int = 50
    silent: bool = False
    show_error: bool = False
    verbose: bool = False
    include: bool = False
    head: bool = False
    insecure: bool = False
    follow: bool = False
    fail: bool = False
    fail_with_body: bool = False
    compressed: bool = False
    http10: bool = False


_FLAGS: Final[dict[str, str]] = {
    "-s": "silent",
    "--silent": "silent",
    "-S": "show_error",
    "--show-error": "show_error",
    "-v": "verbose",
    "--verbose": "verbose",
    "-i": "include",
    "--include": "include",
    "--show-headers": "include",
    "-I": "head",
    "--head": "head",
    "-k": "insecure",
    "--insecure": "insecure",
    "-L": "follow",
    "--location": "follow",
    "-f": "fail",
    "--fail": "fail",
    "--fail-with-body": "fail_with_body",
    "-G": "data_in_query",
    "--get": "data_in_query",
    "--compressed": "compressed",
    "-0": "http10",
    "--http1.0": "http10",
}
# Without meaning here: HTTP/1.1 is all there is, and output is never buffered or decorated.
_IGNORED: Final = {
    *("--http1.1", "-N", "--no-buffer", "-#", "--progress-bar", "--no-progress-meter"),
    *("-q", "--disable", "--no-keepalive", "-g", "--globoff", "--path-as-is"),
}


def _number(value: str, option: str) -> float:
    try:
        number = float(value)
    except ValueError as error:
        raise UsageError(f"option {option}: expected a number, got {value!r}") from error
    if not 0 <= number < 1e9:
        raise UsageError(f"option {option}: {value} is out of range")
    return number


def _file(value: str, *, lines: bool) -> bytes:
    import sys

    name = value[1:]
    try:
        if name == "-":
            content = sys.stdin.buffer.read()
        else:
            with open(name, "rb") as file:
                content = file.read()
    except OSError as error:
        raise UsageError(f"cannot read {name}: {error.strerror}") from error
    return content.replace(b"\r", b"").replace(b"\n", b"") if lines else content


def _add_data(options: Options, data: bytes) -> None:
    options.data = data if options.data is None else options.data + b"&" + data


def _data(options: Options, value: str) -> None:
    _add_data(options, _file(value, lines=True) if value.startswith("@") else value.encode())


def _data_binary(options: Options, value: str) -> None:
    _add_data(options, _file(value, lines=False) if value.startswith("@") else value.encode())


def _data_urlencode(options: Options, value: str) -> None:
    from urllib.parse import quote

    name, separator, content = value.partition("=")
    if not separator:
        name, content = "", value
    prefix = f"{name}=" if name else ""
    _add_data(options, f"{prefix}{quote(content, safe='')}".encode())


def _json(options: Options, value: str) -> None:
    options.headers += [("Content-Type", "application/json"), ("Accept", "application/json")]
    _data_binary(options, value)


def _header(options: Options, value: str) -> None:
    name, separator, content = value.partition(":")
    if any(letter in value for letter in "\r\n\0") or not name.strip():
        raise UsageError(f"option -H: {value!r} is not a header")
    if separator and content.strip():
        options.headers.append((name.strip(), content.strip()))
    elif separator:
        options.removed_headers.add(name.strip().lower())
    elif name.endswith(";"):
        options.headers.append((name[:-1].strip(), ""))


def _resolve(options: Options, value: str) -> None:
    host, _, rest = value.lstrip("+").partition(":")
    port, _, address = rest.partition(":")
    address = address.split(",")[0].strip("[]")
    if not port.isdigit() or not address:
        raise UsageError(f"option --resolve: {value!r} is not HOST:PORT:ADDRESS")
    options.resolve[host.lower(), int(port)] = address


def _connect_to(options: Options, value: str) -> None:
    words = value.split(":")
    if len(words) != 4:
        raise UsageError(f"option --connect-to: {value!r} is not HOST:PORT:HOST:PORT")
    options.connect_to.append((words[0].lower(), words[1], words[2], words[3]))


def _set(name: str) -> Callable[[Options, str], None]:
    def change(options: Options, value: str) -> None:
        setattr(options, name, value)

    return change


def _time(name: str) -> Callable[[Options, str], None]:
    def change(options: Options, value: str) -> None:
        setattr(options, name, _number(value, f"--{name.replace('_', '-')}"))

    return change


def _count(name: str, option: str) -> Callable[[Options, str], None]:
    def change(options: Options, value: str) -> None:
        setattr(options, name, int(_number(value, option)))

    return change


_VALUES: Final[dict[str, Callable[[Options, str], None]]] = {
    "-X": _set("method"),
    "--request": _set("method"),
    "-H": _header,
    "--header": _header,
    "-d": _data,
    "--data": _data,
    "--data-ascii": _data,
    "--data-raw": lambda options, value: _add_data(options, value.encode()),
    "--data-binary": _data_binary,
    "--data-urlencode": _data_urlencode,
    "--json": _json,
    "-o": lambda options, value: options.output.append(value),
    "--output": lambda options, value: options.output.append(value),
    "-D": _set("dump_header"),
    "--dump-header": _set("dump_header"),
    "-w": _set("write_out"),
    "--write-out": _set("write_out"),
    "-m": _time("max_time"),
    "--max-time": _time("max_time"),
    "--connect-timeout": _time("connect_timeout"),
    "-u": _set("user"),
    "--user": _set("user"),
    "--resolve": _resolve,
    "--connect-to": _connect_to,
    "-A": _set("user_agent"),
    "--user-agent": _set("user_agent"),
    "-e": lambda options, value: options.headers.append(("Referer", value)),
    "--referer": lambda options, value: options.headers.append(("Referer", value)),
    "--oauth2-bearer": lambda options, value: options.headers.append(
        ("Authorization", f"Bearer {value}")
    ),
    "-b": _set("cookie"),
    "--cookie": _set("cookie"),
    "-c": _set("cookie_jar"),
    "--cookie-jar": _set("cookie_jar"),
    "-x": _set("proxy"),
    "--proxy": _set("proxy"),
    "--cacert": _set("ca_certificate"),
    "-E": _set("certificate"),
    "--cert": _set("certificate"),
    "--key": _set("key"),
    "--url": lambda options, value: options.urls.append(value),
    "--retry": _count("retries", "--retry"),
    "--max-redirs": _count("max_redirects", "--max-redirs"),
}


def parse(arguments: Sequence[str]) -> Options:
    """The options of a command line, short flags together (``-sSv``) or not.

    Raises UsageError naming an option that is unknown or lacks its value.
    """
    options = Options()
    words = iter(arguments)
    for word in words:
        if word == "--":
            options.urls += words
        elif word.startswith("--"):
            _long(options, word, words)
        elif word.startswith("-") and word != "-":
            _short(options, word, words)
        else:
            options.urls.append(word)
    if not options.urls:
        raise UsageError("no URL is given")
    return options


def _long(options: Options, word: str, words: Iterator[str]) -> None:
    if word in _VALUES:
        _VALUES[word](options, _next(word, words))
    elif not _flag(options, word):
        raise UsageError(f"option {word}: is unknown")


def _short(options: Options, word: str, words: Iterator[str]) -> None:
    for index in range(1, len(word)):
        option = f"-{word[index]}"
        if option in _VALUES:
            rest = word[index + 1 :]
            _VALUES[option](options, rest or _next(option, words))
            return
        if not _flag(options, option):
            raise UsageError(f"option {option}: is unknown")


def _flag(options: Options, word: str) -> bool:
    import socket

    if word in _FLAGS:
        setattr(options, _FLAGS[word], True)
    elif word in ("-4", "--ipv4"):
        options.family = socket.AF_INET
    elif word in ("-6", "--ipv6"):
        options.family = socket.AF_INET6
    elif word not in _IGNORED:
        return False
    return True


def _next(option: str, words: Iterator[str]) -> str:
    value = next(words, None)
    if value is None:
        raise UsageError(f"option {option}: requires a value")
    return value
