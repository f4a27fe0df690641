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
