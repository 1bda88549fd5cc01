"""Path templates are taken exactly if Envoy's path matcher takes them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lateen.api.security.path_template import (
    ANY_SEGMENTS,
    ONE_SEGMENT,
    is_path_template,
    path_template_problem,
)

LITERALS = st.text("abcXYZ019-._~!$&'()+,;:@=", min_size=1, max_size=8)
SEGMENTS = st.lists(LITERALS | st.just(ONE_SEGMENT), max_size=6)


@given(SEGMENTS, st.booleans(), st.lists(LITERALS, max_size=2))
def test_operators_between_literal_segments_are_taken(
    segments: list[str], open_end: bool, rest: list[str]
) -> None:
    parts = [*segments, *([ANY_SEGMENTS, *rest] if open_end else [])]
    assert not path_template_problem("/" + "/".join(parts))


@given(SEGMENTS, SEGMENTS.filter(lambda parts: ONE_SEGMENT in parts))
def test_no_operator_follows_any_segments(before: list[str], after: list[str]) -> None:
    path = "/" + "/".join([*before, ANY_SEGMENTS, *after])
    assert "last operator" in path_template_problem(path)


@given(LITERALS, st.sampled_from([ONE_SEGMENT, ANY_SEGMENTS]), LITERALS)
def test_an_operator_stands_alone_in_its_segment(before: str, operator: str, after: str) -> None:
    assert path_template_problem(f"/{before}{operator}")
    assert path_template_problem(f"/{operator}{after}")


@given(st.text(max_size=40).filter(lambda text: not set("{}") & set(text)))
def test_text_without_braces_is_no_template_and_always_taken(path: str) -> None:
    assert not is_path_template(path)
    assert not path_template_problem(path)


@pytest.mark.parametrize("path", ["/*/{*}", "/{*}/*", "/a b/{*}", "/{*}//b", "/{*}/a*"])
def test_other_characters_may_not_stand_beside_operators(path: str) -> None:
    assert path_template_problem(path)
