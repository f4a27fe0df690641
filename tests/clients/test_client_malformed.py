"""Bad requests to two nodes with a real model: each is the caller's mistake, and costs the next one nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
import requests
from asking import HELLO, PARIS, QWEN, wait_until_free
from format_models import DEMO
from make_model import configurations, make_model
from malformed_bodies import PATHS, bodies
from running_cluster import Cluster

REFUSAL = "Conversation roles must alternate"
TEMPLATE = (
    "{% for message in messages %}{% if 'Refuse.' in message.content %}"
    "{{ raise_exception('" + REFUSAL + "') }}{% endif %}{{ message.content }}\n{% endfor %}"
)


def answers(cluster: Cluster, session: requests.Session, model: str = QWEN) -> None:
    """A good request works."""
    body = {"model": model, "messages": [HELLO], "max_tokens": 3, "temperature": 0}
    response = session.post(f"{cluster.base}/v1/chat/completions", json=body, timeout=60)
    assert response.status_code == 200, response.text
    assert response.json()["usage"]["completion_tokens"]


def refused(response: requests.Response, shown: object) -> dict[str, Any]:
    """The error, which must be the caller's, in OpenAI's shape."""
    assert 400 <= response.status_code < 500, (shown, response.text)
    answer = response.json()
    assert set(answer) == {"error"}, shown
    error: dict[str, Any] = answer["error"]
    assert set(error) == {"message", "type", "param", "code"}, shown
    assert error["type"] == "invalid_request_error", shown
    assert error["message"], shown
    return error


def test_bad_bodies_are_the_callers_mistake(demo: Cluster) -> None:
    tried = bodies(QWEN)
    assert len(set(tried)) >= 300
    with requests.Session() as session:
        for number, (kind, body) in enumerate(tried):
            headers = {"Content-Type": "application/json"}
            response = session.post(demo.base + PATHS[kind], data=body, headers=headers, timeout=60)
            refused(response, body[:300])
            if number % 50 == 0:
                answers(demo, session)
        answers(demo, session)
    wait_until_free(demo)


@pytest.fixture(scope="module")
def refusing(demo: Cluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A model beside the demonstration's whose chat template raises for one message; its name."""
    folder = tmp_path_factory.mktemp("models") / "refusing"
    make_model(configurations()["llama"], folder, seed=3, tokenizer=DEMO)
    (folder / "template.jinja").write_text(TEMPLATE)
    served = {"name": "refusing", "chat_template": "template.jinja", "tool_format": "hermes"}
    (folder / "tandem.json").write_text(json.dumps({"served_names": [served]}))
    demo.load(str(folder))
    yield "refusing"
    demo.unload("refusing")


@pytest.mark.parametrize("stream", [False, True])
def test_a_template_that_raises_is_the_callers_mistake(demo: Cluster, refusing: str, stream: bool) -> None:
    body = {"model": refusing, "messages": [PARIS, {"role": "user", "content": "Refuse."}], "stream": stream}
    with requests.Session() as session:
        answers(demo, session, refusing)
        response = session.post(f"{demo.base}/v1/chat/completions", json=body, timeout=60)
        error = refused(response, body)
        assert (response.status_code, error["param"]) == (400, "messages")
        assert REFUSAL in error["message"]
        answers(demo, session, refusing)
        answers(demo, session)
    wait_until_free(demo)
