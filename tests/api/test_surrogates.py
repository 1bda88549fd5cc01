"""Half of a surrogate pair, which no UTF-8 text can hold, is a finding wherever it is written."""

import pytest

from lateen.api.parse import parse_documents

START = '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":'


@pytest.mark.parametrize(
    "text",
    [
        START + r'"a\ud800"}}',
        START + r'"a\udc00"}}',
        START + r'"a"},"data":{"\ud800":"b"}}',
        START + r'"a"},"data":{"b":"\uDFFF"}}',
        'apiVersion: v1\nkind: ConfigMap\nmetadata: {name: "a\\ud800"}\n',
    ],
)
def test_half_a_surrogate_pair_is_a_finding(text: str) -> None:
    result = parse_documents(text)
    assert not result.resources
    assert [finding.rule for finding in result.findings] == ["LT0001"]


def test_a_whole_surrogate_pair_is_one_character() -> None:
    result = parse_documents(START + r'"a"},"data":{"b":"\ud83d\ude00"}}')
    assert not result.findings
    assert len(result.resources) == 1
