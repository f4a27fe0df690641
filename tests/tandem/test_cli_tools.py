"""`tandem tools`: what it says of models on this disk, of served names, and of models that are nowhere."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from test_cli_commands import FakeNode

from node.cluster.catalog import DEMO_FOLDER
from tandem import rpc
from tandem.cli import main
from tandem.v1 import membership_pb2, membership_pb2_grpc, types_pb2

SILENT = "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{% endfor %}"
CODER = (
    "{% for t in tools or [] %}{{ t | tojson }}{% endfor %}{% for m in messages %}<|{{ m.role }}|>{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>\n<function={{ c.function.name }}>\n"
    "{% for k, v in c.function.arguments.items() %}<parameter={{ k }}>\n{{ v }}\n</parameter>\n{% endfor %}"
    "</function>\n</tool_call>{% endfor %}{% endfor %}"
)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.setenv("TANDEM_NODE", "127.0.0.1:1")
    monkeypatch.chdir(tmp_path)


def model(folder: Path, template: str) -> Path:
    """The embedded model's tokenizer under another template, without any weights or names."""
    folder.mkdir()
    for name in ("config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"):
        shutil.copy(DEMO_FOLDER / name, folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "chat_template.jinja").write_text(template)
    return folder


def test_the_embedded_model(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tools", "tandem-demo"]) == 0
    text = capsys.readouterr().out
    assert "tandem-demo-qwen: hermes (it was set)" in text and "tandem-demo-llama: llama3_json" in text
    assert '{"name": "get_forecast", "arguments": {"city": "Lyon", "days": 3}}' in text
    assert "<tool_response>\n  RESULT42" in text
    assert 'NAME "\\", \\"arguments\\": " JSON' in text and "wakes at '<tool_call>'" in text


def test_a_folder_with_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tools", str(model(tmp_path / "coder", CODER)), "--json"]) == 0
    (about,) = json.loads(capsys.readouterr().out)
    assert (about["format"], about["found_by"]) == ("qwen3_coder", "rendered call")
    assert "<parameter=city>\nLyon\n</parameter>" in about["call"] and "RESULT42" in about["result"]
    assert about["grammar"].startswith('"<tool_call>\\n<function=" NAME ">\\n"')
    assert main(["tools", str(tmp_path / "coder"), "--json", "--format", "glm47"]) == 0
    (about,) = json.loads(capsys.readouterr().out)
    assert (about["format"], about["found_by"]) == ("glm47", "setting")


def test_unknown_is_an_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = model(tmp_path / "silent", SILENT)
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    for token in tokenizer["added_tokens"]:
        token["content"] = token["content"].replace("tool_call", "other").replace("python_tag", "another")
    words = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {
        word.replace("tool_call", "other").replace("python_tag", "another"): i for word, i in words.items()
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
    assert main(["tools", str(folder)]) == 0
    text = capsys.readouterr().out
    assert "silent: unknown format" in text
    assert "drops or refuses the assistant's calls" in text
    assert "does not tell the model which tools there are" in text


def test_what_is_nowhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tools", "no-such-model"]) == 1
    assert "there is no model no-such-model" in capsys.readouterr().err
    assert main(["tools", str(model(tmp_path / "coder", CODER)), "--format", "nonsense"]) == 1
    assert "unknown tool format nonsense" in capsys.readouterr().err


@contextmanager
def serving(node: FakeNode) -> Iterator[str]:
    """The node on a loop of its own; its address."""
    ready, done = Event(), Event()

    async def run() -> None:
        server = rpc.make_server()
        membership_pb2_grpc.add_MembershipServiceServicer_to_server(node, server)
        node.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        await server.start()
        ready.set()
        await asyncio.to_thread(done.wait)
        await server.stop(None)

    thread = Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert ready.wait(10)
        yield node.address
    finally:
        done.set()
        thread.join()


def test_a_served_name_is_asked_of_a_node(tmp_path: Path, capsys: pytest.CaptureFixture[Any]) -> None:
    node = FakeNode()
    folder = model(tmp_path / "coder", SILENT)
    name = membership_pb2.ServedName(name="helper", chat_template=CODER)
    ref = types_pb2.ModelRef(model_id=str(folder))
    node.pipelines = [membership_pb2.Pipeline(pipeline_id="p", model=ref, served_names=[name])]
    with serving(node) as address:
        assert main(["tools", "helper", "--node", address]) == 0
        assert "helper: qwen3_coder (the model's template writes a known call so)" in capsys.readouterr().out
        assert main(["tools", "other", "--node", address]) == 1
