"""Who waits with the handshake, and for how long."""

from __future__ import annotations

from lateen.serve.handshakes import AT_ONCE, LONGEST_WAIT, PATIENCE, Handshakes


class Crowd:
    """Proxies that have proved who they are, and wait for their turn."""

    def __init__(self) -> None:
        self.waits = False

    def __call__(self) -> bool:
        return self.waits


def queue(crowd: Crowd, most: int = 1000) -> Handshakes[str]:
    return Handshakes(crowd, most)


def test_handshakes_begin_at_once_as_long_as_there_is_room() -> None:
    turns = queue(Crowd())
    names = [f"proxy-{number}" for number in range(AT_ONCE + 2)]

    assert [turns.ask(name, 1.0) for name in names] == [*[True] * AT_ONCE, False, False]
    assert turns.due(1.0) == []

    turns.ended("proxy-3")
    assert turns.due(1.0) == [f"proxy-{AT_ONCE}"]
    assert (turns.waiting, turns.is_waiting(f"proxy-{AT_ONCE + 1}")) == (1, True)


def test_who_is_far_away_keeps_nobody_from_beginning() -> None:
    turns = queue(Crowd())
    for number in range(AT_ONCE):
        turns.ask(f"far-{number}", 1.0)
    turns.ask("near", 1.01)

    assert turns.due(1.0 + PATIENCE / 2) == []
    assert turns.due(1.0 + PATIENCE) == ["near"]


def test_while_proxies_wait_for_their_turn_others_wait_with_their_handshake() -> None:
    crowd = Crowd()
    turns = queue(crowd)
    crowd.waits = True

    assert not turns.ask("first", 1.0)
    assert not turns.ask("second", 2.0)
    assert turns.due(3.0) == []

    crowd.waits = False
    assert not turns.ask("third", 3.0), "it came last"
    assert turns.due(3.0) == ["first", "second", "third"]


def test_nobody_waits_for_ever() -> None:
    crowd = Crowd()
    turns = queue(crowd)
    crowd.waits = True
    turns.ask("first", 1.0)
    turns.ask("second", 2.0)

    assert turns.due(1.0 + LONGEST_WAIT) == ["first"]
    assert turns.due(2.0 + LONGEST_WAIT) == ["second"]


def test_who_has_left_is_not_waited_for() -> None:
    crowd = Crowd()
    turns = queue(crowd)
    crowd.waits = True
    turns.ask("gone", 1.0)
    turns.ended("gone")
    crowd.waits = False

    assert turns.due(1.0) == []
    assert turns.ask("next", 1.0)


def test_in_a_flood_nobody_is_made_to_wait() -> None:
    crowd = Crowd()
    turns = queue(crowd, most=3)
    crowd.waits = True
    for number in range(5):
        turns.ask(f"connection-{number}", 1.0)

    assert turns.due(1.0) == ["connection-0", "connection-1"]
