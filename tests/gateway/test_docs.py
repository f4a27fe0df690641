"""The page on the API names everything that the gateway knows."""

import re
from pathlib import Path

import pytest

from gateway.openai.properties import CHAT, COMPLETIONS, Properties

PAGE = (Path(__file__).parents[2] / "docs" / "api.md").read_text()
CHAT_PAGE, TEXT_PAGE = re.split(r"^## Completions$", PAGE, flags=re.MULTILINE)


@pytest.mark.parametrize(("page", "lists"), [(CHAT_PAGE, CHAT), (TEXT_PAGE, COMPLETIONS)])
def test_each_property_stands_under_its_list(page: str, lists: Properties) -> None:
    honoured, _, rest = page.partition("**Refused by name**")
    refused, _, ignored = rest.partition("**Accepted without effect**")
    ignored = re.split(r"^#", ignored, flags=re.MULTILINE)[0]
    assert lists.honoured | lists.extensions <= set(re.findall(r"`(\w+)`", honoured))
    assert set(re.findall(r"`(\w+)`", refused)) - {"unsupported_parameter"} == set(lists.refused)
    assert set(re.findall(r"`(\w+)`", ignored)) == lists.ignored


ROOT = Path(__file__).parents[2]
UNSEEN = {
    "bad_setting": "ends a process before it serves anybody",
    "not_found": "the nodes' own; a client's model that is not there is model_not_found",
    "out_of_memory": "of a stage that is loaded: insufficient_memory for the client who waits for it",
    "stage_missing": "in the reason of a pipeline that is degraded",
}
"""Codes that no client is sent, and why."""


def test_each_code_of_an_error_is_told() -> None:
    sources = [*(ROOT / "gateway").rglob("*.py"), *(ROOT / "node").rglob("*.py"), ROOT / "tandem" / "errors.py"]
    written = {code for path in sources for code in re.findall(r'\bcode ?= ?"(\w+)"', path.read_text("utf-8"))}
    told = set(re.findall(r"`(\w+)`", PAGE.partition("## Errors")[2]))
    assert len(written) > 20
    assert written - told - set(UNSEEN) == set()
    assert told & set(UNSEEN) == set()
    quoted = {word for path in sources for word in re.findall(r'"(\w+)"', path.read_text("utf-8"))}
    assert told - quoted == set()
