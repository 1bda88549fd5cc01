"""YAML as Kubernetes reads it."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from lateen.api.yamltext import Document, YamlError, load, load_exact, split_documents


def value(text: str) -> object:
    loaded = load(Document(f"a: {text}\n", 1, 1))
    assert isinstance(loaded, dict)
    return loaded["a"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("yes", True),
        ("off", False),
        ("n", False),
        ('"yes"', "yes"),
        ("yes please", "yes please"),
        ("0777", 511),
        ("0o17", 15),
        ("08", 8),
        ("1_000", 1000),
        ("1e3", 1000),
        ("2001-01-01", "2001-01-01"),
        ("12:30:45", "12:30:45"),
        ("18446744073709551615", 18446744073709551615),
        ("!!str 5", "5"),
        ("~", None),
        ("=", "="),
    ],
)
def test_scalars(text: str, expected: object) -> None:
    assert value(text) == expected
    assert type(value(text)) is type(expected)


def test_merge_keys_and_boolean_keys() -> None:
    text = "base: &b {x: 1, y: 2}\nall:\n  <<: *b\n  x: 3\non: z\n"
    expected = {"base": {"x": 1, "true": 2}, "all": {"x": 3, "true": 2}, "true": "z"}
    assert load(Document(text, 1, 1)) == expected


@pytest.mark.parametrize(
    "text", ["a: 1\na: 2\n", "a: yes\na: 2\n", "a: [\n", "a: &x [*x]\n", "a: .inf\nb: yes\n"]
)
def test_refused(text: str) -> None:
    with pytest.raises(YamlError) as caught:
        load(Document(text, 10, 10))
    assert caught.value.line >= 10


def test_expansion_of_aliases_is_bounded() -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, yes]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    with pytest.raises(YamlError):
        load(Document("\n".join(lines), 1, 1))


def test_documents_keep_their_index_and_line() -> None:
    text = "# head\n---\n# one\na: 1\n---\n---\nb: 2\n...\n%YAML 1.1\n---\nc: 3\n"
    found = [(document.start, load(document)) for document in split_documents(text)]
    assert found == [(4, {"a": 1}), (5, None), (7, {"b": 2}), (11, {"c": 3})]


plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=12),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.text(max_size=8), plain, max_size=5))
def test_fast_and_exact_reader_agree(data: dict[str, object]) -> None:
    text = yaml.safe_dump(data, allow_unicode=False)
    document = Document(text, 1, 1)
    assert load(document) == load_exact(document)
