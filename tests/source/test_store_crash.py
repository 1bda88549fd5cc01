"""What was acknowledged survives `kill -9`; a full disk changes nothing."""

from __future__ import annotations

import os
import random
import resource
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from lateen.source.store import Store, StoreError, Write
from tests.source.objects import config_map, key

_WRITER = textwrap.dedent(
    """
    import sys
    from pathlib import Path
    from lateen.source.store import Store, Write
    from tests.source.objects import config_map, key

    store = Store(Path(sys.argv[1]))
    number = store.revision
    while True:
        number += 2
        pair = [
            Write(key(f"{side}{number % 7}"), config_map("x", n=str(number), pad="x" * 2000))
            for side in "ab"
        ]
        print(store.commit(pair, "writer")[-1].revision, flush=True)
    """
)


@pytest.mark.timeout(90)
def test_every_acknowledged_revision_survives_kill(tmp_path: Path) -> None:
    path = tmp_path / "store.db"
    chance = random.Random(7)
    acknowledged = 0
    for _round in range(6):
        writer = subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(path)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(["src", "."])},
        )
        assert writer.stdout is not None
        acknowledged = int(writer.stdout.readline())
        time.sleep(chance.uniform(0.0, 0.25))
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read().split(b"\n")
        writer.wait()
        # The last element is what was cut off in the middle of a line, or empty.
        for line in rest[:-1]:
            acknowledged = int(line)
        store = Store(path)
        assert store.revision >= acknowledged
        assert store.revision % 2 == 0, "half of a commit was stored"
        told = store.subscribe(since=0).drain()
        assert [event.object.revision for event in told] == list(range(1, store.revision + 1))
        for stored in store.all():
            newest = store.history(stored.key, limit=1)[0]
            assert newest.object.raw == stored.raw
        store.close()
    assert sqlite3.connect(path).execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_full_disk_changes_nothing_and_says_so(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(_fill(tmp_path / "store.db"))
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    store = Store(tmp_path / "store.db")
    assert {stored.key.name for stored in store.all()} == {"first", "small"}
    assert [event.object.revision for event in store.subscribe(since=0).drain()] == [1, 2]


def _fill(path: Path) -> int:
    """In a process of its own, because the limit on file sizes cannot be raised again."""
    store = Store(path)
    store.commit([Write(key("first"), config_map("first"))], "test")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))
    subscription = store.subscribe()
    big = [
        Write(key(name), config_map(name, pad="x" * 300_000)) for name in ("one", "two", "three")
    ]
    try:
        store.commit(big, "test")
    except StoreError as error:
        if "nothing was changed" not in str(error) or store.revision != 1 or subscription.drain():
            return 2
    else:
        return 1
    store.commit([Write(key("small"), config_map("small"))], "test")
    return 0 if store.revision == 2 else 3
