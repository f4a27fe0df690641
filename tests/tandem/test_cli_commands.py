"""The commands that ask a node, against a node whose answers are written here; everything between is real."""

from __future__ import annotations

import asyncio
import io
import json
import re
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import Parse

from tandem import rpc
from tandem.cli import main
from tandem.errors import InvalidRequestError, NotFoundError
from tandem.v1 import (
    generation_pb2,
    generation_pb2_grpc,
    membership_pb2,
    membership_pb2_grpc,
    model_pb2,
    model_pb2_grpc,
    types_pb2,
)

SEGMENTS = (
    [types_pb2.Segment(first_layer=0, end_layer=3), types_pb2.Segment(first_layer=6, end_layer=6, epilogue=True)],
    [types_pb2.Segment(first_layer=3, end_layer=6)],
)


def pipeline(**about: Any) -> membership_pb2.Pipeline:
    stages = [
        membership_pb2.Stage(node_ids=[f"{name}-id"], segments=segments)
        for name, segments in zip(("mini", "studio"), SEGMENTS, strict=True)
    ]
    names = [membership_pb2.ServedName(name="demo-a"), membership_pb2.ServedName(name="demo-b")]
    model = types_pb2.ModelRef(model_id="demo", revision="r1")
    about = {"state": membership_pb2.PIPELINE_STATE_READY, **about}
    return membership_pb2.Pipeline(pipeline_id="p1", model=model, stages=stages, served_names=names, **about)


class FakeNode(
    membership_pb2_grpc.MembershipServiceServicer,
    model_pb2_grpc.ModelServiceServicer,
    generation_pb2_grpc.GenerationServiceServicer,
):
    """A node that answers as it was told and remembers what it was asked."""

    def __init__(self) -> None:
        self.address = ""
        self.asked: list[Any] = []
        self.version = 7
        self.states = {"mini": membership_pb2.NODE_STATE_ALIVE, "studio": membership_pb2.NODE_STATE_STUCK}
        self.reasons: dict[str, str] = {}
        self.pipelines = [pipeline()]
        self.answers: list[list[generation_pb2.GenerationEvent]] = []

    def topology(self) -> membership_pb2.Topology:
        port = int(self.address.rpartition(":")[2])
        nodes = [
            membership_pb2.Node(
                node_id=f"{name}-id",
                name=name,
                state=state,
                state_reason=self.reasons.get(name, ""),
                endpoints=[types_pb2.Endpoint(host="127.0.0.1", port=port)],
                capabilities=membership_pb2.NodeCapabilities(
                    memory_bytes=12_000_000_000, free_memory_bytes=950_000_000, device="CPU"
                ),
            )
            for name, state in self.states.items()
        ]
        return membership_pb2.Topology(version=self.version, nodes=nodes, pipelines=self.pipelines)

    async def GetTopology(self, request: Any, context: Any) -> membership_pb2.GetTopologyResponse:
        return membership_pb2.GetTopologyResponse(topology=self.topology())

    async def WatchTopology(self, request: Any, context: Any) -> AsyncIterator[membership_pb2.WatchTopologyResponse]:
        for state in (membership_pb2.PIPELINE_STATE_LOADING, membership_pb2.PIPELINE_STATE_READY):
            self.pipelines = [pipeline(state=state)]
            for _ in range(3):
                self.version += 1
                yield membership_pb2.WatchTopologyResponse(topology=self.topology())

    async def ListModels(self, request: Any, context: Any) -> model_pb2.ListModelsResponse:
        loaded = model_pb2.ModelEntry(
            model=types_pb2.ModelRef(model_id="demo"),
            pipeline=self.pipelines[0],
            on_disk_node_ids=["mini-id", "studio-id"],
            context_tokens=16384,
            served_names=["demo-a", "demo-b"],
        )
        other = model_pb2.ModelEntry(model=types_pb2.ModelRef(model_id="other/model"), served_names=["other/model"])
        return model_pb2.ListModelsResponse(models=[loaded, other])

    async def PlanModel(self, request: model_pb2.PlanModelRequest, context: Any) -> model_pb2.PlanModelResponse:
        self.asked.append(request)
        if request.model.model_id == "nowhere":
            await rpc.abort(
                context, NotFoundError("no model is called 'nowhere';\nthere is demo", code="model_not_found")
            )
        stages = pipeline().stages
        plan = model_pb2.Plan(model=request.model, stages=stages, digest="d1", explanation=["both fit", "one hop"])
        return model_pb2.PlanModelResponse(plan=plan)

    async def LoadModel(self, request: Any, context: Any) -> AsyncIterator[model_pb2.LoadModelResponse]:
        self.asked.append(request)
        phases = (model_pb2.LOAD_PHASE_LOADING, model_pb2.LOAD_PHASE_LOADING, model_pb2.LOAD_PHASE_READY)
        for done, phase in enumerate(phases):
            progress = model_pb2.NodeLoadProgress(
                node_id="mini-id", phase=phase, done_bytes=done * 5000, total_bytes=10_000
            )
            yield model_pb2.LoadModelResponse(progress=progress)
        if request.model.model_id != "silent":
            yield model_pb2.LoadModelResponse(ready=pipeline())

    async def UnloadModel(self, request: Any, context: Any) -> model_pb2.UnloadModelResponse:
        self.asked.append(request)
        return model_pb2.UnloadModelResponse(freed_bytes=10_400_000)

    async def Generate(
        self, request: generation_pb2.GenerateRequest, context: Any
    ) -> AsyncIterator[generation_pb2.GenerateResponse]:
        self.asked.append(request)
        if request.model == "unknown":
            await rpc.abort(context, InvalidRequestError("no template", param="model"))
        for event in self.answers.pop(0):
            yield generation_pb2.GenerateResponse(events=[event])


@pytest.fixture
async def node() -> AsyncIterator[FakeNode]:
    fake, server = FakeNode(), rpc.make_server()
    membership_pb2_grpc.add_MembershipServiceServicer_to_server(fake, server)
    model_pb2_grpc.add_ModelServiceServicer_to_server(fake, server)
    generation_pb2_grpc.add_GenerationServiceServicer_to_server(fake, server)
    fake.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    yield fake
    await server.stop(None)


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def tandem(node: FakeNode, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    async def call(*arguments: str) -> tuple[int, str, str]:
        code = await asyncio.to_thread(main, [*arguments, "--node", node.address])
        return code, *capsys.readouterr()

    return call


async def test_status_is_a_table_of_nodes_and_one_of_models(tandem: Callable[..., Any], node: FakeNode) -> None:
    code, out, _ = await tandem("status")
    lines = [line.split("  ") for line in out.splitlines()]
    cells = [[cell.strip() for cell in line if cell.strip()] for line in lines]
    assert code == 0
    assert cells == [
        ["node", "id", "address", "state", "memory free", "device", "holds"],
        ["mini", "mini-id", node.address, "alive", "950.0 MB of 12.0 GB", "CPU", "demo: layers 0-2, output head"],
        ["studio", "studio-i", node.address, "stuck", "950.0 MB of 12.0 GB", "CPU", "demo: layers 3-5"],
        [],
        ["model", "served as", "state", "stages"],
        ["demo", "demo-a, demo-b", "ready", "mini → studio"],
    ]


async def test_status_without_a_model_says_what_to_do(tandem: Callable[..., Any], node: FakeNode) -> None:
    node.pipelines = []
    _, out, _ = await tandem("status")
    assert "tandem load MODEL" in out.splitlines()[-1]


async def test_status_names_why_a_model_does_not_serve(tandem: Callable[..., Any], node: FakeNode) -> None:
    node.pipelines = [pipeline(state=membership_pb2.PIPELINE_STATE_DEGRADED, reason="studio is lost")]
    node.reasons = {"studio": "none of 3 steps finished in 9 s " * 10}
    _, out, _ = await tandem("status")
    lines = out.splitlines()
    assert lines[-1] == "demo is degraded: studio is lost"
    assert lines[3] == f"studio is stuck: {node.reasons['studio']}"
    assert max(len(line) for line in lines if line not in (lines[3], lines[-1])) < 120
    _, out, _ = await tandem("models")
    assert out.splitlines()[-1] == "demo is degraded: studio is lost"


async def test_status_says_nothing_of_what_a_lost_node_holds(tandem: Callable[..., Any], node: FakeNode) -> None:
    node.states["studio"] = membership_pb2.NODE_STATE_LOST
    _, out, _ = await tandem("status")
    assert out.splitlines()[1].split()[-4:] == ["layers", "0-2,", "output", "head"]
    assert out.splitlines()[2].split() == ["studio", "studio-i", node.address, "lost", "-", "CPU", "-"]


async def test_status_as_json_is_the_topology(tandem: Callable[..., Any], node: FakeNode) -> None:
    _, out, _ = await tandem("status", "--json")
    assert Parse(out, membership_pb2.Topology()) == node.topology()
    assert json.loads(out)["nodes"][0]["state"] == "NODE_STATE_ALIVE"


async def test_status_is_watched_until_the_node_ends_it(tandem: Callable[..., Any]) -> None:
    code, out, _ = await tandem("status", "--watch", "--json")
    states = [json.loads(line)["pipelines"][0]["state"] for line in out.splitlines()]
    assert (code, states) == (0, ["PIPELINE_STATE_LOADING", "PIPELINE_STATE_READY"])
    _, out, _ = await tandem("status", "--watch")
    assert re.findall(r"  (loading|ready)  ", out) == ["loading", "ready"]


async def test_models(tandem: Callable[..., Any]) -> None:
    _, out, _ = await tandem("models")
    rows = [line.split() for line in out.splitlines()]
    assert rows[1] == ["demo", "demo-a,", "demo-b", "ready", "16384", "mini,", "studio"]
    assert rows[2] == ["other/model", "other/model", "on", "disk", "-", "-"]
    _, out, _ = await tandem("models", "--json")
    assert [entry["model"]["model_id"] for entry in json.loads(out)["models"]] == ["demo", "other/model"]


async def test_plan_shows_stages_and_reasons(tandem: Callable[..., Any], node: FakeNode) -> None:
    code, out, _ = await tandem("plan", "demo", "--context", "4096", "--on", "studio", "--on", "mini-id")
    assert code == 0
    assert node.asked == [
        model_pb2.PlanModelRequest(
            model=types_pb2.ModelRef(model_id="demo"), context_tokens=4096, node_ids=["studio-id", "mini-id"]
        )
    ]
    assert [line.split() for line in out.splitlines()[2:]] == [
        ["node", "holds"],
        ["mini", "layers", "0-2,", "output", "head"],
        ["studio", "layers", "3-5"],
        [],
        ["why:"],
        ["both", "fit"],
        ["one", "hop"],
    ]


async def test_a_plan_can_be_pinned(tandem: Callable[..., Any], node: FakeNode, tmp_path: Path) -> None:
    _, out, _ = await tandem("plan", "demo", "--json")
    (tmp_path / "plan.json").write_text(out)
    code, _, _ = await tandem("load", "demo", "--plan", str(tmp_path / "plan.json"), "--as", "gpt", "--as", "mine")
    request = node.asked[-1]
    assert (code, request.plan.digest, list(request.plan.stages)) == (0, "d1", list(pipeline().stages))
    assert [name.name for name in request.served_names] == ["gpt", "mine"]


async def test_load_shows_each_phase_once_and_where_it_is(tandem: Callable[..., Any], node: FakeNode) -> None:
    code, out, err = await tandem("load", "demo")
    assert (code, err.splitlines()) == (0, ["mini: loading 10.0 KB", "mini: ready 10.0 KB"])
    assert out.splitlines()[0] == "demo serves as demo-a, demo-b"
    assert not node.asked[0].HasField("plan")


async def test_load_on_named_nodes_pins_their_plan(tandem: Callable[..., Any], node: FakeNode) -> None:
    await tandem("load", "demo", "--on", "mini")
    assert list(node.asked[0].node_ids) == ["mini-id"]
    assert node.asked[1].plan.digest == "d1"


async def test_a_folder_is_named_as_a_whole_path(tandem: Callable[..., Any], node: FakeNode, tmp_path: Path) -> None:
    await tandem("plan", "./mine")
    assert node.asked[0].model.model_id == str(tmp_path / "mine")


async def test_unload(tandem: Callable[..., Any], node: FakeNode) -> None:
    assert (await tandem("unload", "demo-a"))[:2] == (0, "demo-a is unloaded, 10.4 MB are free again\n")
    assert node.asked[0].name == "demo-a"


@pytest.mark.parametrize(
    ("arguments", "code", "line"),
    [
        (("plan", "nowhere"), 1, "tandem: no model is called 'nowhere'; there is demo"),
        (("plan", "demo", "--on", "attic"), 1, "tandem: no node is called 'attic'; there are mini, studio"),
        (("load", "demo", "--plan", "absent.json"), 1, "tandem: absent.json is not a plan: "),
        (("chat", "unknown", "-m", "hi"), 1, "tandem: no template"),
        (("chat", "-m", "hi", "--tools", "absent.json"), 1, "tandem: absent.json: "),
    ],
)
async def test_an_error_is_one_line(
    tandem: Callable[..., Any], arguments: tuple[str, ...], code: int, line: str
) -> None:
    found, out, err = await tandem(*arguments)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert err.startswith(line)


async def test_a_load_that_ends_without_a_word_is_an_error(tandem: Callable[..., Any], node: FakeNode) -> None:
    code, _, err = await tandem("load", "silent")
    assert (code, err.splitlines()[-1]) == (3, f"tandem: {node.address} stopped loading and did not say why")


CALL = generation_pb2.ToolCall(tool_call_id="c1", name="get_weather", arguments_json='{"city": "Paris"}')
CALLING = [
    generation_pb2.GenerationEvent(accepted=generation_pb2.Accepted(prompt_tokens=9)),
    generation_pb2.GenerationEvent(reasoning="which city?"),
    generation_pb2.GenerationEvent(content="Let me look."),
    generation_pb2.GenerationEvent(tool_call_start=generation_pb2.ToolCallStart(tool_call_id="c1", name="get_weather")),
    generation_pb2.GenerationEvent(tool_call_arguments=generation_pb2.ToolCallArguments(arguments_delta='{"city": ')),
    generation_pb2.GenerationEvent(tool_call_arguments=generation_pb2.ToolCallArguments(arguments_delta='"Paris"}')),
    generation_pb2.GenerationEvent(tool_call_end=generation_pb2.ToolCallEnd(tool_call=CALL)),
    generation_pb2.GenerationEvent(finished=generation_pb2.Finished(reason=generation_pb2.FINISH_REASON_TOOL_CALLS)),
]
SPEAKING = [
    generation_pb2.GenerationEvent(content="It is "),
    generation_pb2.GenerationEvent(content="sunny."),
    generation_pb2.GenerationEvent(finished=generation_pb2.Finished(reason=generation_pb2.FINISH_REASON_STOP)),
]
FAILING = [
    generation_pb2.GenerationEvent(content="It"),
    generation_pb2.GenerationEvent(failed=generation_pb2.Failed(code="stage_lost", message="studio is lost")),
]
TOOLS = [{"type": "function", "function": {"name": "get_weather", "parameters": {"type": "object", "b": 1, "a": 2}}}]


async def test_chat_streams_an_answer_with_a_call(tandem: Callable[..., Any], node: FakeNode, tmp_path: Path) -> None:
    node.answers = [CALLING]
    (tmp_path / "tools.json").write_text(json.dumps(TOOLS))
    code, out, err = await tandem(
        "chat", "demo-b", "-m", "Weather?", "--tools", "tools.json", "--seed", "5", "--system", "S"
    )
    assert (code, out, err) == (0, 'Let me look.\n→ get_weather {"city": "Paris"}\n', "which city?\n")
    request = node.asked[0]
    assert (request.model, request.sampling.seed, request.HasField("max_tokens")) == ("demo-b", 5, False)
    assert not request.sampling.HasField("temperature")
    assert request.tools[0].parameters_json == '{"type": "object", "b": 1, "a": 2}'
    assert [message.content[0].text for message in request.conversation.messages] == ["S", "Weather?"]


async def test_chat_takes_the_only_model_and_reads_a_pipe(
    tandem: Callable[..., Any], node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.answers = [SPEAKING]
    monkeypatch.setattr("sys.stdin", io.StringIO("Weather?"))
    assert await tandem("chat", "--temperature", "0", "--max-tokens", "9") == (0, "It is sunny.\n", "")
    assert (node.asked[0].model, node.asked[0].sampling.temperature, node.asked[0].max_tokens) == ("demo-a", 0.0, 9)


async def test_the_environment_names_the_model_to_talk_to(
    tandem: Callable[..., Any], node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TANDEM_MODEL", "demo-b")
    node.answers = [SPEAKING, SPEAKING]
    assert (await tandem("chat", "-m", "hi"))[0] == 0
    assert (await tandem("chat", "demo-a", "-m", "hi"))[0] == 0
    assert [request.model for request in node.asked] == ["demo-b", "demo-a"]
    assert (await tandem("status"))[0] == 0


async def test_a_conversation_goes_on_with_results_and_past_a_failure(
    tandem: Callable[..., Any], node: FakeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("sys.stdin", Terminal("Weather?\nsunny, 20\nAnd now?\nAnd then?\n"))
    node.answers = [CALLING, SPEAKING, FAILING, SPEAKING]
    code, out, err = await tandem("chat", "demo-a")
    assert (code, err) == (0, "which city?\ntandem: studio is lost\n")
    assert out.count("It is sunny.\n") == 2
    roles = [[message.role for message in request.conversation.messages] for request in node.asked]
    user, assistant, tool = generation_pb2.ROLE_USER, generation_pb2.ROLE_ASSISTANT, generation_pb2.ROLE_TOOL
    assert roles == [
        [user],
        [user, assistant, tool],
        [user, assistant, tool, assistant, user],
        [user, assistant, tool, assistant, user],
    ]
    assistant_turn, result = node.asked[1].conversation.messages[1:]
    assert (list(assistant_turn.tool_calls), assistant_turn.content[0].text) == ([CALL], "Let me look.")
    assert (result.tool_call_id, result.name, result.content[0].text) == ("c1", "get_weather", "sunny, 20")
    assert len({request.generation_id for request in node.asked}) == 4


async def test_chat_asks_the_head(
    tandem: Callable[..., Any], node: FakeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    other = FakeNode()
    other.answers = [SPEAKING]
    server = rpc.make_server()
    generation_pb2_grpc.add_GenerationServiceServicer_to_server(other, server)
    other.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    await server.start()
    host, port = other.address.split(":")
    topology = node.topology()
    topology.nodes[0].endpoints[0].CopyFrom(types_pb2.Endpoint(host=host, port=int(port)))
    node.topology = lambda: topology  # type: ignore[method-assign]
    assert await tandem("chat", "demo-a", "-m", "hi") == (0, "It is sunny.\n", "")
    assert (len(other.asked), node.asked) == (1, [])
    await server.stop(None)


async def test_nobody_answers(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tandem.cli.connect.TOLD_DEADLINE", 0.3)
    server = grpc.aio.server()
    port = server.add_insecure_port("127.0.0.1:0")
    await server.stop(None)
    code = await asyncio.to_thread(main, ["status", "--node", f"127.0.0.1:{port}"])
    assert (code, capsys.readouterr().err) == (
        3,
        f"tandem: no node answers at 127.0.0.1:{port}; `tandem node` starts one\n",
    )
