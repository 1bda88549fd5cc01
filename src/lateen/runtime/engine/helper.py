"""The process on the machine's side that asks the container engine for the node.

Engines need the machine's own namespaces and the rights of who runs `lateen up`; the node has
neither. So one process stays behind with them, and does one thing only: for the name of an image it
answers with a directory that holds the image's files. Whoever takes over the node, or may write
manifests, can make the engine pull an image, and nothing else.

It is a fork that waits. Every request gets a fork of its own, which loads what it needs, answers,
and ends. Another one does nothing but start it again when it ends.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import time
from typing import NoReturn

from lateen.runtime.node import privileges, process, wire

MAX_WORKERS = 4
"""Images that are fetched or unpacked at the same time."""
_STOP_SECONDS = 3.0
_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 10.0
_STEADY = 10.0
"""Seconds after which the next pause is the first one again."""


def fork_helper(channel: socket.socket, choice: str) -> int:
    """Starts it; ``channel`` is its end. Returns its process id."""
    pid = os.fork()
    if pid:
        return pid
    try:
        process.close_all_but([channel.fileno()])
        keep(channel, choice)
    except BaseException as error:
        with contextlib.suppress(BaseException):
            sys.stderr.write(f"lateen engine: {error!r}\n")
        os._exit(1)
    os._exit(0)


def keep(channel: socket.socket, choice: str) -> NoReturn:
    """Has `serve` run, and run again whenever it was killed, until the node has gone."""
    privileges.set_process_name("lateen-keep")
    privileges.die_with_parent(signal.SIGTERM)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    pause, again = _FIRST_PAUSE, False
    while True:
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            serve(channel, choice, again=again)
        if os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0:
            os._exit(0)
        lived = time.monotonic() - began
        pause = _FIRST_PAUSE if lived > _STEADY else min(2 * pause, _LONGEST_PAUSE)
        sys.stderr.write(f"lateen engine: ended after {lived:.1f} s and is started again\n")
        sys.stderr.flush()
        time.sleep(pause)
        again = True


def serve(channel: socket.socket, choice: str, *, again: bool = False) -> None:
    """Answers until the node has gone; takes what is still being fetched with it. ``again``: what
    was asked of an earlier one gets no answer, and the node is told so."""
    privileges.set_process_name("lateen-engine")
    if again:
        with contextlib.suppress(wire.ChannelClosed, OSError):
            wire.send(channel, {"event": "restarted"})
    # A group of its own, with all commands that it starts.
    os.setpgid(0, 0)
    privileges.die_with_parent(signal.SIGTERM)
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: _end())
    workers: set[int] = set()
    while True:
        try:
            message, fds = wire.receive(channel)
        except (wire.ChannelClosed, OSError):
            _end()
        for fd in fds:
            os.close(fd)
        while len(workers) >= MAX_WORKERS:
            workers.discard(os.waitpid(-1, 0)[0])
        pid = os.fork()
        if pid == 0:
            _work(channel, message, choice)
        workers.add(pid)
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG)[0]) != 0:
                workers.discard(ended)


def _work(channel: socket.socket, message: wire.Message, choice: str) -> NoReturn:
    """In a fork: one request, one answer."""
    try:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))
        privileges.die_with_parent(signal.SIGTERM)
        reply, fds = answer(message, choice)
        wire.send(channel, {"id": wire.number(message, "id"), **reply}, fds)
    except BaseException as error:
        with contextlib.suppress(BaseException):
            number = wire.number(message, "id")
            wire.send(channel, {"id": number, "error": repr(error), "errno": 0})
        os._exit(1)
    os._exit(0)


def answer(message: wire.Message, choice: str) -> tuple[wire.Message, tuple[int, ...]]:
    """The reply to ``{"image", "policy"}``: ``{"root", "config"}`` with the descriptor that keeps
    the directory there, ``{"absent": why}`` without an engine, or ``{"refused": {...}}``."""
    from lateen.runtime.engine.cache import CacheError, ImageCache, default_folder
    from lateen.runtime.engine.commands import NoEngine, detect
    from lateen.runtime.engine.errors import ImageRefused
    from lateen.runtime.engine.resolve import resolve

    environment = dict(os.environ)
    try:
        engine = detect(choice, environment)
    except NoEngine as error:
        return {"absent": str(error)}, ()
    try:
        cache = ImageCache(default_folder(environment))
        image, policy = wire.text(message, "image"), wire.text(message, "policy")
        config, root, lock = resolve(engine, cache, image, policy)
    except CacheError as error:
        return {"refused": {"reason": "ErrImagePull", "message": str(error)}}, ()
    except ImageRefused as error:
        return {"refused": {"reason": error.reason, "message": str(error)}}, ()
    return {"root": root, "config": config.to_json()}, (lock,)


def _end() -> NoReturn:
    """Ends the whole group; commands get a moment to clean up after themselves."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        os.killpg(0, signal.SIGTERM)
    deadline = time.monotonic() + _STOP_SECONDS
    with contextlib.suppress(ChildProcessError):
        while time.monotonic() < deadline:
            if os.waitpid(-1, os.WNOHANG)[0] == 0:
                time.sleep(0.02)
    with contextlib.suppress(OSError):
        os.killpg(0, signal.SIGKILL)
    os._exit(0)
