"""What only real sockets and real processes show: peers that are killed, foreign peers, large messages everywhere."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import grpc
import pytest
from grpc import aio
from link_peers import HELLO, GrpcTransport, Receiver, soon

from node.cluster.membership import Membership
from node.engine import frames
from node.links import codec
from node.links.grpc import DialledPipe
from node.links.link import WINDOW_BYTES, OutgoingLink
from node.services.membership import MembershipServicer
from tandem import rpc
from tandem.errors import LinkError, PreconditionError
from tandem.v1 import pipeline_pb2 as pb
from tandem.v1.membership_pb2 import ProbeLinkRequest
from tandem.v1.membership_pb2_grpc import MembershipServiceStub, add_MembershipServiceServicer_to_server
from tandem.v1.pipeline_pb2_grpc import PipelineServiceStub

ROOT = Path(__file__).resolve().parents[3]

SENDER = """
import asyncio, sys
from node.links import codec
from node.links.grpc import DialledPipe
from node.engine import frames
from tandem import rpc
from tandem.v1 import pipeline_pb2 as pb

async def main():
    pipe = DialledPipe(rpc.make_channel(sys.argv[1]))
    await pipe.send(codec.encode(pb.StreamActivationsRequest(log_index=1, hello=pb.LinkHello())))
    await pipe.receive()
    step = frames.Step(1, 0, 1, (), (frames.Tensor(frames.ElementType.BOOL, (3000,), bytes(3000)),))
    for message in list(codec.to_messages(step, 1000, 2))[:-1]:
        await pipe.send(codec.encode(message))
    print("half", flush=True)
    await asyncio.Event().wait()

rpc.run(main())
"""
RECEIVER = """
import asyncio
from node.links.grpc import add_pipeline_service
from node.links.link import IncomingLink
from tandem import rpc

async def accept(pipe):
    await IncomingLink.accept(pipe, lambda hello: True)
    while await pipe.receive() is not None:
        print("piece", flush=True)

async def main():
    server = rpc.make_server()
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    add_pipeline_service(server, accept)
    await server.start()
    await asyncio.Event().wait()

rpc.run(main())
"""


@asynccontextmanager
async def process(program: str, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A Python process that is gone when the block ends."""
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    try:
        yield child
    finally:
        if child.returncode is None:
            child.kill()
        await child.communicate()


async def line(child: asyncio.subprocess.Process) -> str:
    """The next line that it prints."""
    assert child.stdout is not None
    return (await soon(child.stdout.readline())).decode().strip()


async def test_a_sender_that_is_killed_in_the_middle_of_a_tensor(grpc_transport: GrpcTransport) -> None:
    receiver = Receiver()
    await grpc_transport.listen(receiver)
    async with process(SENDER, grpc_transport.address) as child:
        assert await line(child) == "half"
        child.kill()
        await soon(receiver.over.wait())
    assert isinstance(receiver.error, LinkError | asyncio.CancelledError)
    assert receiver.entries.empty()


async def test_a_receiver_that_is_killed_in_the_middle_of_a_tensor() -> None:
    async with process(RECEIVER) as child:
        address = f"127.0.0.1:{await line(child)}"
        link = await OutgoingLink.open(DialledPipe(rpc.make_channel(address), own_channel=True), HELLO)
        tensor = frames.Tensor(frames.ElementType.BOOL, (4 * WINDOW_BYTES,), bytes(4 * WINDOW_BYTES))
        sending = asyncio.create_task(link.send(frames.Step(1, 0, 1, (), (tensor,))))
        assert await line(child) == "piece"
        child.kill()
        with pytest.raises(LinkError):
            await soon(sending)
        assert isinstance(link.broken.result(), LinkError)
        await link.close()


@asynccontextmanager
async def by_hand(address: str) -> AsyncIterator[aio.StreamStreamCall[object, object]]:
    """A call as somebody else's program makes it, with the generated code and plain options."""
    async with aio.insecure_channel(address) as channel:
        call = PipelineServiceStub(channel).StreamActivations()
        yield cast("aio.StreamStreamCall[object, object]", call)
        call.cancel()


async def test_the_generated_code_can_speak_to_a_link(grpc_transport: GrpcTransport) -> None:
    """A foreign sender: its entry arrives; it ends its half of the stream, and the link ends well."""
    receiver = Receiver()
    await grpc_transport.listen(receiver)
    data = os.urandom(3000)
    sent = frames.Step(1, 0, 1, (), (frames.Tensor(frames.ElementType.BOOL, (3000,), data),))
    async with by_hand(grpc_transport.address) as call:
        await call.write(pb.StreamActivationsRequest(log_index=1, hello=HELLO))
        ready = await soon(call.read())
        assert isinstance(ready, pb.StreamActivationsResponse)
        assert ready.ready.credit_bytes == WINDOW_BYTES
        for message in codec.to_messages(sent, 1000, 2):
            await call.write(pb.StreamActivationsRequest.FromString(codec.encode(message)))
        await call.done_writing()
        assert await soon(call.code()) is grpc.StatusCode.OK
    (arrived,) = await receiver.take(1)
    assert isinstance(arrived, frames.Step)
    assert arrived.tensors[0].data == data
    assert receiver.error is None


async def test_a_stale_epoch_is_failed_precondition_on_the_wire(grpc_transport: GrpcTransport) -> None:
    def refuse(said: pb.LinkHello) -> None:
        raise PreconditionError(f"epoch {said.epoch} is stale")

    await grpc_transport.listen(Receiver(refuse=refuse))
    async with by_hand(grpc_transport.address) as call:
        await call.write(pb.StreamActivationsRequest(log_index=1, hello=HELLO))
        assert await soon(call.code()) is grpc.StatusCode.FAILED_PRECONDITION
        assert await call.details() == "epoch 3 is stale"


async def test_a_unary_call_of_5_mib_passes_both_ways() -> None:
    """Without the options of ``rpc`` gRPC refuses more than 4 MiB."""
    server = rpc.make_server()
    port = server.add_insecure_port("127.0.0.1:0")
    add_MembershipServiceServicer_to_server(MembershipServicer(cast(Membership, None)), server)
    await server.start()
    channel = rpc.make_channel(f"127.0.0.1:{port}")
    try:
        payload = os.urandom(5 * 1024 * 1024)
        answer = await soon(MembershipServiceStub(channel).ProbeLink(ProbeLinkRequest(payload=payload)))
        assert answer.payload == payload
    finally:
        await channel.close()
        await server.stop(0)
