"""Parts that did not change come back as the same object, and what is replaced is forgotten."""

from __future__ import annotations

from weakref import ref

from lateen.translate.memo import Identity, Memo


class Input:
    """Anything that parts are made from."""


def test_the_same_inputs_give_the_same_object() -> None:
    memo: Memo[list[int]] = Memo()
    assert memo.get("a", list) is memo.get("a", list)


def test_the_least_recently_used_entry_leaves_first() -> None:
    memo: Memo[list[int]] = Memo(2)
    first = memo.get("a", list)
    memo.get("b", list)
    assert memo.get("a", list) is first
    memo.get("c", list)
    assert memo.get("a", list) is first
    assert len(memo) == 2


def test_the_newest_of_a_family_takes_the_place_of_the_one_before() -> None:
    """Endpoints that change all the time must not fill the memory with their forms of old."""
    memo: Memo[list[int]] = Memo()
    other = memo.get("other", list, family="other")
    for number in range(1000):
        endpoints = Identity((number,))
        for scope in ("a", "b"):
            made = memo.get((scope, endpoints), list, family=(scope, "service"))
            again = memo.get((scope, endpoints), list, family=(scope, "service"))
            assert made is again
    assert len(memo) == 2 + 1
    assert memo.get("other", list, family="other") is other


def test_inputs_that_are_replaced_are_not_kept_alive() -> None:
    memo: Memo[None] = Memo()
    first, second = Input(), Input()
    alive = ref(first)
    memo.get(Identity(first), lambda: None, family="part")
    memo.get(Identity(second), lambda: None, family="part")
    del first
    assert alive() is None


def test_what_another_family_made_takes_the_place_too() -> None:
    memo: Memo[list[int]] = Memo()
    memo.get("old", list, family="first")
    memo.get("new", list, family="second")
    assert len(memo) == 2
    memo.get("new", list, family="first")
    assert len(memo) == 1


def test_what_another_family_took_away_is_made_once_more() -> None:
    memo: Memo[list[int]] = Memo()
    memo.get("old", list, family="slow")
    memo.get("new", list, family="quick")
    memo.get("old", list, family="quick")
    memo.get("newest", list, family="quick")
    made = memo.get("old", list, family="slow")
    assert memo.get("old", list, family="slow") is made


def test_families_that_are_gone_leave_too() -> None:
    memo: Memo[list[int]] = Memo(10)
    for number in range(1000):
        memo.get(number, list, family=number)
    assert len(memo) == 10
    assert len(memo._families) == 10
