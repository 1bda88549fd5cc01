"""Files that were made to hurt whoever reads them: one line about each, at once."""

from __future__ import annotations

import time

import pytest
from aiohttp.test_utils import make_mocked_request
from aiohttp.web import Request, Response

from lateen.api.parse import parse_documents
from lateen.cli.output import out, visible
from lateen.source.api_common import errors

_HEAD = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n"
_BOMB = "q: &a [x, x, x, x, x, x, x, x, x]\nz:\n" + "".join(
    f"- &{chr(98 + i)} [{', '.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(9)
)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        pytest.param(_HEAD + _BOMB, "too many aliases", id="aliases"),
        pytest.param(_HEAD + "data: " + "[" * 100_000, "too deeply", id="open brackets"),
        pytest.param(_HEAD + "data: " + "{a: " * 50_000 + "}" * 50_000, "too deeply", id="maps"),
        pytest.param("{" + '"a":[' + "[" * 100_000 + "]" * 100_001 + "}", "too deeply", id="json"),
        pytest.param(_HEAD + "data:\n" + "".join(f"{' ' * i}a:\n" for i in range(1, 3000)),
                     "too deeply", id="indentation"),
        pytest.param("apiVersion: v1\nkind: List\nitems: &i\n- *i\n", "", id="itself"),
        pytest.param(_HEAD + "data: {a: " + "9" * 100_000 + "}", "100000 digits", id="number"),
        pytest.param("!!python/object/apply:os.system ['true']", "must be a mapping", id="tag"),
    ],
)  # fmt: skip
def test_a_bomb_is_one_finding(text: str, says: str) -> None:
    began = time.monotonic()
    result = parse_documents(text, "bomb.yaml")
    assert len(result.findings) == 1
    assert says in result.findings[0].message
    # Generous: the readers took minutes.
    assert time.monotonic() - began < 10


def test_brackets_in_texts_are_no_depth() -> None:
    script = "\n".join("    x = [" + "[0], " * 20 + "]" for _ in range(200))
    assert not parse_documents(_HEAD + f"data:\n  script: |\n{script}\n", "good.yaml").findings


def test_the_terminal_is_not_commanded(capsys: pytest.CaptureFixture[str]) -> None:
    out.print("name \x1b[2J\x1b]0;title\x07 \x9b31m \u202egnp.exe")
    written = capsys.readouterr().out
    assert written.startswith("name ")
    assert not set("\x1b\x07\x9b\u202e") & set(written)
    assert visible("a\tb\nc\x1b") == "a\tb\nc\\u001b"


async def test_a_deep_body_is_the_callers_mistake() -> None:
    async def handler(_request: Request) -> Response:
        raise RecursionError

    answer = await errors(make_mocked_request("POST", "/api/v1/pods"), handler)
    assert answer.status == 400
