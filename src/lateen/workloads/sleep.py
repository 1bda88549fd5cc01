"""Sleeps until SIGTERM or SIGINT, then exits with 0: ``python -m lateen.workloads.sleep [TIME]``.

The client pod of tutorials: nothing runs in it until a command is executed there. TIME is in
seconds, with s, m, h or d as a suffix, or ``infinity``, the default.
"""

import signal
import sys

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def seconds(value: str) -> float:
    """How long ``value`` says to sleep; less than zero for ever. Raises ValueError."""
    if value in ("infinity", "inf"):
        return -1.0
    unit = _UNITS.get(value[-1:])
    duration = float(value[:-1]) * unit if unit else float(value)
    if not 0 <= duration < 1e9:
        raise ValueError(value)
    return duration


def program(arguments: list[str]) -> int:
    """Sleep; the exit status."""
    try:
        durations = [seconds(each) for each in arguments] or [-1.0]
    except ValueError as error:
        sys.stderr.write(f"sleep: not a time: {error}\n")
        return 2
    # Blocked and waited for, not handled: no code runs between the signal and the exit.
    ends = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, ends)
    if min(durations) < 0:
        signal.sigwait(ends)
    else:
        signal.sigtimedwait(ends, sum(durations))
    return 0


if __name__ == "__main__":
    sys.exit(program(sys.argv[1:]))
