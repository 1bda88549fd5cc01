"""Which image is which built-in workload, and the command a container of it runs.

Registry and tag do not matter: a mirror's ``examples-bookinfo-reviews-v2`` is Istio's. What
Kubernetes says about ``command`` and ``args`` holds: the first replaces an image's entrypoint, the
second its arguments (Container in the core/v1 API). A program that a manifest names in ``command``
is looked up among the image's programs first, because the file that it names is in the image.
"""

import os.path
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

_NOTHING: Final[Mapping[str, str]] = MappingProxyType({})


def _module(name: str, *arguments: str) -> tuple[str, ...]:
    return (sys.executable, "-m", f"lateen.workloads.{name}", *arguments)


_NO_PROGRAMS: Final[Mapping[str, tuple[str, ...]]] = MappingProxyType({})


@dataclass(frozen=True)
class BuiltinCommand:
    """What a container of a known image runs.

    ``env`` is the image's own environment: what a manifest sets goes over it. ``programs`` maps
    names of programs in the image to commands here; it also serves ``exec`` into the container.
    """

    entrypoint: tuple[str, ...]
    cmd: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=lambda: _NOTHING)
    programs: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: _NO_PROGRAMS)

    def argv(
        self, command: Sequence[str] | None = None, args: Sequence[str] | None = None
    ) -> tuple[str, ...]:
        """The command line for a container's ``command`` and ``args``, as Kubernetes joins them."""
        if command:
            return self.resolve((*command, *(args or ())))
        words = tuple(args) if args else self.cmd
        return (*self.entrypoint, *words) if self.entrypoint else self.resolve(words)

    def resolve(self, argv: Sequence[str]) -> tuple[str, ...]:
        """``argv`` with a program of the image replaced by the built-in one."""
        if not argv:
            return ()
        known = self.programs.get(os.path.basename(argv[0]))
        return (*known, *argv[1:]) if known else tuple(argv)


def _shell() -> BuiltinCommand:
    """Images that are tools of the machine anyway: the machine's own programs run."""
    programs = {"curl": _module("curl")} if not _installed("curl") else {}
    programs["python"] = programs["python3"] = (sys.executable,)
    return BuiltinCommand((), ("sh",), programs=MappingProxyType(programs))


def _installed(name: str) -> bool:
    import shutil

    return shutil.which(name) is not None


def _curl() -> BuiltinCommand:
    # The machine's own programs are lighter and, for curl, more complete than ours.
    programs = {name: _module(name) for name in ("curl", "sleep") if not _installed(name)}
    entrypoint = programs.get("curl", ("curl",))
    return BuiltinCommand(entrypoint, ("--help",), programs=MappingProxyType(programs))


def _sleep() -> BuiltinCommand:
    return BuiltinCommand(_module("sleep"), programs=_curl().programs)


def _bookinfo(name: str, **env: str) -> BuiltinCommand:
    return BuiltinCommand(_module(name), ("9080",), MappingProxyType(env))


def _reviews(version: str, *, rated: bool, color: str = "black") -> BuiltinCommand:
    env = {"SERVICE_VERSION": version, "ENABLE_RATINGS": str(rated).lower()}
    return _bookinfo("reviews", **env, **({"STAR_COLOR": color} if rated else {}))


def _httpbin(style: str, port: int) -> BuiltinCommand:
    run = _module("httpbin")
    return BuiltinCommand(
        run,
        (),
        MappingProxyType({"HTTPBIN_STYLE": style, "PORT": str(port)}),
        MappingProxyType({"go-httpbin": run, "httpbin": run, "gunicorn": run}),
    )


def _helloworld(version: str) -> BuiltinCommand:
    return BuiltinCommand(_module("helloworld"), (), MappingProxyType({"SERVICE_VERSION": version}))


def _tcp_echo() -> BuiltinCommand:
    run = _module("tcp_echo")
    programs = MappingProxyType({"tcp-echo": run, "tcp-echo-server": run})
    return BuiltinCommand(run, ("9000", "hello"), programs=programs)


def _plain(name: str) -> BuiltinCommand:
    return BuiltinCommand(_module(name))


def _with_version(pattern: str) -> str:
    """A repository with its version in the name or in the tag, e.g. ``x-v2`` or ``x:v2``."""
    return rf"{pattern}(?:-(?P<name>v[\w-]*))?(?::(?P<tag>.+))?"


_RATINGS: Final = ("v1", "v2", "v-faulty", "v-delayed", "v-unavailable", "v-unhealthy")


def _bookinfo_image(service: str, version: str) -> BuiltinCommand | None:
    if service == "productpage":
        return _bookinfo("productpage")
    if service == "details" and version in ("v1", "v2"):
        external = {"ENABLE_EXTERNAL_BOOK_SERVICE": "true"} if version == "v2" else {}
        return _bookinfo("details", SERVICE_VERSION=version, **external)
    if service == "ratings" and version in _RATINGS:
        return _bookinfo("ratings", SERVICE_VERSION=version)
    reviews = {
        "v1": _reviews("v1", rated=False),
        "v2": _reviews("v2", rated=True),
        "v3": _reviews("v3", rated=True, color="red"),
    }
    return reviews.get(version) if service == "reviews" else None


_BOOKINFO: Final = re.compile(
    _with_version(
        r"(?:.*/)?(?:examples-)?bookinfo-(?P<service>productpage|details|ratings|reviews)"
    )
)
_HELLOWORLD: Final = re.compile(_with_version(r"(?:.*/)?(?:examples-)?helloworld"))

COMMANDS: Final[tuple[tuple[str, Callable[[], BuiltinCommand]], ...]] = (
    (r"mccutchen/go-httpbin|lateen/httpbin", lambda: _httpbin("go", 8080)),
    (r"(?:kong|kennethreitz|citizenstig)/httpbin", lambda: _httpbin("python", 80)),
    (r"curlimages/curl|governmentpaas/curl-ssl|curl/curl|lateen/curl", _curl),
    (r"lateen/sleep|pause|pstauffer/curl|tutum/curl", _sleep),
    (r"tcp-echo-server|tcp-echo", _tcp_echo),
    (r"tornado-websocket-example|lateen/websockets", lambda: _plain("websockets")),
    (r"(?:istio-testing|testing|istio|lateen)/ext-authz", lambda: _plain("ext_authz")),
    (r"(?:istio|release|lateen)/(?:examples-)?health", lambda: _plain("health")),
    (r"busybox|alpine|debian|ubuntu|python|nicolaka/netshoot", _shell),
)
"""Patterns of repositories, matched at the end of an image's repository from a ``/``, in order.

Bookinfo and helloworld have their version in the repository or tag: :func:`builtin_command`.
"""


def builtin_command(image: str) -> BuiltinCommand | None:
    """The built-in workload for an image reference, or None when there is none.

    >>> builtin_command("docker.io/istio/examples-bookinfo-reviews-v3:1.20.3").env["STAR_COLOR"]
    'red'
    """
    reference = image.partition("@")[0]
    if found := _BOOKINFO.fullmatch(reference):
        version = found["name"] or (found["tag"] if _is_version(found["tag"]) else "v1")
        return _bookinfo_image(found["service"], version)
    if found := _HELLOWORLD.fullmatch(reference):
        version = found["name"] or (found["tag"] if _is_version(found["tag"]) else "v1")
        return _helloworld(version)
    folder, _, last = reference.rpartition("/")
    repository = f"{folder}/{last.partition(':')[0]}" if folder else last.partition(":")[0]
    for pattern, command in COMMANDS:
        if re.search(rf"(?:^|/)(?:{pattern})$", repository):
            return command()
    return None


def _is_version(tag: str | None) -> bool:
    return tag is not None and re.fullmatch(r"v\d|v-\w+", tag) is not None


def program_command(argv: Sequence[str]) -> list[str]:
    """``argv``, with ``curl`` replaced by the built-in one on a machine that has none."""
    if argv and argv[0] == "curl" and not _installed("curl"):
        return [*_module("curl"), *argv[1:]]
    return list(argv)
