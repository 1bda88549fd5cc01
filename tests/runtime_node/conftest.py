"""Who runs the scenarios: every live test runs as root and as an ordinary user."""

from __future__ import annotations

import os
import sys

import pytest

from tests.runtime_node.host import Account, ordinary_account


@pytest.fixture(scope="session")
def ordinary() -> Account:
    return ordinary_account()


@pytest.fixture(params=["root", "ordinary user"])
def account(request: pytest.FixtureRequest) -> Account:
    if request.param == "ordinary user":
        found: Account = request.getfixturevalue("ordinary")
        return found
    if os.getuid() != 0:
        pytest.skip("the tests do not run as root")
    return Account(0, 0, sys.executable)
