"""What every link promises, over gRPC on real sockets and in memory."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable

import pytest
from link_peers import HELLO, Receiver, SteppedPipe, Transport, linked, soon

from node.engine import frames
from node.links import codec
from node.links.base import Pipe
from node.links.link import GRANT_BYTES, PIECE_BYTES, UNLIMITED, WINDOW_BYTES, IncomingLink, OutgoingLink
from tandem.errors import LinkError, NotFoundError, PreconditionError, StageLostError, TandemError
from tandem.v1 import pipeline_pb2 as pb

MIB = 1024 * 1024


def step(step_id: int, *sizes: int | None) -> frames.Step:
    """A step with a tensor of random bytes for each size; None is a tensor that the model passes as None."""
    kind = frames.ElementType.BOOL
    tensors = tuple(
        frames.Tensor(kind, (), None) if size is None else frames.Tensor(kind, (size,), os.urandom(size))
        for size in sizes
    )
    return frames.Step(step_id, 1, 1, (frames.Span(4, 7, 1, 1),), tensors)


def bytes_of(entry: frames.Entry) -> list[bytes | None]:
    assert isinstance(entry, frames.Step)
    return [None if tensor.data is None else bytes(tensor.data) for tensor in entry.tensors]


def same(left: frames.Entry, right: frames.Entry) -> bool:
    if isinstance(left, frames.Step) and isinstance(right, frames.Step):
        return left.step_id == right.step_id and left.spans == right.spans and bytes_of(left) == bytes_of(right)
    return left == right


def hello(**changes: object) -> bytes:
    message = pb.StreamActivationsRequest(log_index=1, hello=HELLO)
    for name, value in changes.items():
        setattr(message, name, value)
    return codec.encode(message)


async def greeted(transport: Transport) -> Pipe:
    """A pipe on which hello was said and answered, for tests that go on by hand."""
    pipe = await transport.dial()
    await pipe.send(hello())
    assert await soon(pipe.receive()) is not None
    return pipe


async def broken(pipe: Pipe) -> TandemError:
    """What breaks a pipe, credits apart."""
    with pytest.raises(TandemError) as caught:
        while await soon(pipe.receive()) is not None:
            pass
        raise AssertionError("the stream ended well")
    return caught.value


# -- what flows


async def test_entries_arrive_in_order_and_whole(transport: Transport) -> None:
    entries: list[frames.Entry] = [frames.OpenSequence(4, "generation", 100, 2, 3, "trace")]
    for number in range(1, 60):
        entries.append(step(number, number * 1000, None, 0, 8192))
        entries.append(frames.TruncateSequence(4, number))
    entries += [step(60, 3 * PIECE_BYTES + 1, 5), step(61), frames.KeepPrefix(1, 4, 9), frames.DropPrefix(1)]
    entries.append(frames.CloseSequence(4))
    receiver = Receiver()
    async with linked(transport, receiver) as link:
        assert receiver.hello == HELLO
        sending = asyncio.gather(*(link.send(entry) for entry in entries))
        arrived = await receiver.take(len(entries))
        await soon(sending)
    assert all(same(sent, got) for sent, got in zip(entries, arrived, strict=True))


async def test_concurrent_senders_stay_whole(transport: Transport) -> None:
    """Each sender's entries keep their order, and nobody's pieces come between another's."""
    receiver = Receiver()
    steps = {lane: [step(100 * lane + number, 2 * PIECE_BYTES + number, 10) for number in range(6)] for lane in (1, 2)}

    async def sender(mine: list[frames.Step]) -> None:
        for entry in mine:
            await link.send(entry)

    async with linked(transport, receiver) as link:
        sending = asyncio.gather(*(sender(mine) for mine in steps.values()))
        arrived = await receiver.take(12)
        await soon(sending)
    for lane, mine in steps.items():
        theirs = [entry for entry in arrived if isinstance(entry, frames.Step) and entry.step_id // 100 == lane]
        assert all(same(sent, got) for sent, got in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("size", [40 * MIB, codec.INLINE_BYTES], ids=["one step", "many steps"])
async def test_a_slow_reader_stops_the_sender(transport: Transport, size: int) -> None:
    """40 MiB, in one step or in many whose tensors travel in their own messages, to a reader that takes one message at
    a time: never more than the window is under way."""
    receiver = Receiver(held=True)
    entries = [step(number, size) for number in range(40 * MIB // size)]
    sent = 0

    def count(data: bytes) -> None:
        nonlocal sent
        carried = codec.carried_bytes(codec.decode(data))
        if carried:
            assert carried <= PIECE_BYTES
            sent += carried
            assert receiver.pipe is not None
            assert sent - receiver.pipe.received <= WINDOW_BYTES

    async def send() -> None:
        for entry in entries:
            await link.send(entry)

    await transport.listen(receiver)
    link = await OutgoingLink.open(SteppedPipe(await transport.dial(), count), HELLO)
    await soon(receiver.ready.wait())
    assert receiver.pipe is not None
    sending = asyncio.create_task(send())
    while not sending.done():
        receiver.pipe.let(1)
        await asyncio.sleep(0.002)
    await sending
    receiver.pipe.let(1000)
    arrived = await receiver.take(len(entries))
    assert sent == 40 * MIB
    assert all(same(entry, got) for entry, got in zip(entries, arrived, strict=True))
    await link.close()
    await soon(receiver.over.wait())


async def test_the_link_that_closes_the_ring_needs_no_credit(transport: Transport) -> None:
    receiver = Receiver(limited=False)
    big = step(1, 40 * MIB)
    async with linked(transport, receiver) as link:
        sending = asyncio.create_task(link.send(big))
        assert same(big, (await receiver.take(1))[0])
        await soon(sending)
        answers = [pb.StreamActivationsResponse.FromString(data) for data in receiver.sent_up]
    assert [answer.WhichOneof("frame") for answer in answers] == ["ready"]
    assert answers[0].ready.credit_bytes == UNLIMITED


async def test_credit_comes_back_for_what_was_read(transport: Transport) -> None:
    receiver = Receiver()
    async with linked(transport, receiver) as link:
        for number in range(20):
            await soon(link.send(step(number, GRANT_BYTES // 4)))
        await receiver.take(20)
        answers = [pb.StreamActivationsResponse.FromString(data) for data in receiver.sent_up]
    assert answers[0].ready.credit_bytes == WINDOW_BYTES
    assert sum(answer.credit.bytes for answer in answers[1:]) == 20 * (GRANT_BYTES // 4)


async def test_a_sender_keeps_to_the_piece_and_the_credit_that_its_peer_names(transport: Transport) -> None:
    sizes: list[int] = []

    async def accept(pipe: Pipe) -> None:
        await pipe.receive()
        ready = pb.LinkReady(credit_bytes=1000, max_piece_bytes=400)
        await pipe.send(pb.StreamActivationsResponse(ready=ready).SerializeToString())
        while sum(sizes) < 5400:
            data = await pipe.receive()
            assert data is not None
            carried = codec.carried_bytes(codec.decode(data))
            if carried:
                sizes.append(carried)
                credit = pb.CreditGrant(bytes=carried)
                await pipe.send(pb.StreamActivationsResponse(credit=credit).SerializeToString())

    await transport.listen(accept)
    link = await OutgoingLink.open(await transport.dial(), HELLO)
    await soon(link.send(step(1, 5000)))
    await soon(link.send(step(2, 400)))
    await link.close()
    assert max(sizes) == 400


async def test_a_message_of_5_mib_passes_both_ways(transport: Transport) -> None:
    async def echo(pipe: Pipe) -> None:
        while (data := await pipe.receive()) is not None:
            await pipe.send(data)

    await transport.listen(echo)
    pipe = await transport.dial()
    data = os.urandom(5 * MIB)
    await soon(pipe.send(data))
    assert await soon(pipe.receive()) == data
    await pipe.close()


# -- hello


@pytest.mark.parametrize("kind", [PreconditionError, NotFoundError])
async def test_a_refusal_keeps_its_kind_and_its_words(transport: Transport, kind: type[TandemError]) -> None:
    """Stale epoch, other digest: the one who dialled learns which."""

    def refuse(said: pb.LinkHello) -> None:
        raise kind(f"epoch {said.epoch} is stale")

    receiver = Receiver(refuse=refuse)
    await transport.listen(receiver)
    with pytest.raises(kind, match="epoch 3 is stale"):
        await soon(OutgoingLink.open(await transport.dial(), HELLO))
    await soon(receiver.over.wait())
    assert receiver.entries.empty()


async def test_no_hello_breaks_the_link_at_its_deadline(transport: Transport) -> None:
    receiver = Receiver(deadline=0.05)
    await transport.listen(receiver)
    pipe = await transport.dial()
    assert isinstance(await broken(pipe), LinkError)
    await soon(receiver.over.wait())
    assert isinstance(receiver.error, LinkError)
    await pipe.close()


async def test_hello_that_comes_too_late_is_not_served(transport: Transport) -> None:
    receiver = Receiver(deadline=0.05)
    await transport.listen(receiver)
    pipe = await transport.dial()
    await soon(receiver.over.wait())
    with pytest.raises(LinkError):
        await soon(OutgoingLink.open(pipe, HELLO))
    assert receiver.hello is None


async def test_no_answer_to_hello_breaks_the_link_and_frees_the_other_end(transport: Transport) -> None:
    over = asyncio.Event()

    async def deaf(pipe: Pipe) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            over.set()

    await transport.listen(deaf)
    with pytest.raises(LinkError, match="no answer to hello"):
        await OutgoingLink.open(await transport.dial(), HELLO, deadline=0.2)
    await soon(over.wait())


async def test_nobody_there_is_a_link_error(transport: Transport) -> None:
    await transport.listen(Receiver())
    await transport.close()
    with pytest.raises(LinkError):
        await soon(OutgoingLink.open(await transport.dial(), HELLO))


@pytest.mark.parametrize(
    "first",
    [
        pytest.param(b"\xff\xff\xff", id="garbage"),
        pytest.param(b"", id="empty"),
        pytest.param(codec.encode(codec.Piece(1, 1, 0, 0, b"data")), id="piece"),
        pytest.param(
            codec.encode(pb.StreamActivationsRequest(log_index=1, close=pb.CloseSequence(sequence_id=1))), id="entry"
        ),
        pytest.param(hello(log_index=2), id="not the first"),
    ],
)
async def test_a_link_that_begins_with_something_else_is_refused(transport: Transport, first: bytes) -> None:
    receiver = Receiver()
    await transport.listen(receiver)
    pipe = await transport.dial()
    await pipe.send(first)
    assert isinstance(await broken(pipe), LinkError)
    assert isinstance(receiver.error, LinkError)
    assert not receiver.ready.is_set()
    await pipe.close()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"\xff\xff", id="garbage"),
        pytest.param(pb.StreamActivationsResponse(credit=pb.CreditGrant(bytes=1)).SerializeToString(), id="credit"),
    ],
)
async def test_an_answer_that_is_none_breaks_the_link(transport: Transport, answer: bytes) -> None:
    async def accept(pipe: Pipe) -> None:
        await pipe.receive()
        await pipe.send(answer)
        await pipe.receive()

    await transport.listen(accept)
    with pytest.raises(LinkError):
        await soon(OutgoingLink.open(await transport.dial(), HELLO))


# -- what breaks


@pytest.mark.parametrize(
    "message",
    [
        pytest.param(b"\xff\xff\xff\xff", id="garbage"),
        pytest.param(hello(), id="index again"),
        pytest.param(hello(log_index=3), id="gap"),
        pytest.param(hello(log_index=2), id="second hello"),
        pytest.param(codec.encode(codec.Piece(2, 1, 0, 0, b"data")), id="piece out of turn"),
    ],
)
async def test_a_breach_breaks_the_link_at_both_ends(transport: Transport, message: bytes) -> None:
    receiver = Receiver()
    await transport.listen(receiver)
    pipe = await greeted(transport)
    await pipe.send(message)
    assert isinstance(await broken(pipe), LinkError)
    assert isinstance(receiver.error, LinkError)
    assert receiver.entries.empty()
    await pipe.close()


async def test_a_piece_larger_than_agreed_breaks_the_link(transport: Transport) -> None:
    receiver = Receiver()
    await transport.listen(receiver)
    pipe = await greeted(transport)
    for message in codec.to_messages(step(1, PIECE_BYTES + 1), PIECE_BYTES + 1, 2):
        await pipe.send(codec.encode(message))
    assert "agreed" in (await broken(pipe)).message
    assert receiver.entries.empty()
    await pipe.close()


async def test_a_step_that_carries_more_than_agreed_breaks_the_link(transport: Transport) -> None:
    receiver = Receiver()
    await transport.listen(receiver)
    pipe = await greeted(transport)
    await pipe.send(codec.encode(codec.StepMessage(2, step(1, PIECE_BYTES + 1), PIECE_BYTES + 1)))
    assert "agreed" in (await broken(pipe)).message
    assert receiver.entries.empty()
    await pipe.close()


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(b"\xff\xff", id="garbage"),
        pytest.param(pb.StreamActivationsResponse(ready=pb.LinkReady()).SerializeToString(), id="ready again"),
    ],
)
async def test_a_peer_that_answers_nonsense_breaks_the_link(transport: Transport, answer: bytes) -> None:
    async def accept(pipe: Pipe) -> None:
        await IncomingLink.accept(pipe, lambda hello: True)
        await pipe.send(answer)
        await pipe.receive()

    await transport.listen(accept)
    link = await OutgoingLink.open(await transport.dial(), HELLO)
    assert isinstance(await soon(asyncio.shield(link.broken)), LinkError)
    with pytest.raises(LinkError):
        await link.send(step(1, 10))
    await link.close()


async def test_a_sender_that_goes_away_in_the_middle_of_a_tensor(transport: Transport) -> None:
    """The half that came is never taken for a whole, and the other end does not wait for the rest."""
    receiver = Receiver()
    await transport.listen(receiver)
    pipe = await greeted(transport)
    messages = list(codec.to_messages(step(1, 3000), 1000, 2))
    for message in messages[:-1]:
        await pipe.send(codec.encode(message))
    await asyncio.sleep(0.01)
    await pipe.close()
    await soon(receiver.over.wait())
    assert isinstance(receiver.error, LinkError | asyncio.CancelledError)
    assert receiver.entries.empty()


async def test_a_receiver_that_goes_away_in_the_middle_of_a_tensor(transport: Transport) -> None:
    receiver = Receiver(held=True)
    await transport.listen(receiver)
    link = await OutgoingLink.open(await transport.dial(), HELLO)
    await soon(receiver.ready.wait())
    sending = asyncio.create_task(link.send(step(1, 2 * WINDOW_BYTES)))
    await asyncio.sleep(0.01)
    await transport.close()
    with pytest.raises(LinkError):
        await soon(sending)
    assert isinstance(await soon(asyncio.shield(link.broken)), LinkError)
    await link.close()


@pytest.mark.parametrize("size", [10, 3 * PIECE_BYTES])
async def test_why_a_peer_gave_up_arrives_while_one_sends(transport: Transport, size: int) -> None:
    """The reason names the stage that was lost further on; a failed write must not hide it."""

    async def accept(pipe: Pipe) -> None:
        link, _ = await IncomingLink.accept(pipe, lambda hello: True)
        await link.receive()
        raise StageLostError("node c is lost")

    async def send() -> None:
        while True:
            await link.send(entry)

    await transport.listen(accept)
    entry = step(1, size)
    for _ in range(10):
        link = await OutgoingLink.open(await transport.dial(), HELLO)
        with pytest.raises(StageLostError, match="node c is lost"):
            await soon(send())
        reason = await soon(asyncio.shield(link.broken))
        assert isinstance(reason, StageLostError)
        await link.close()


async def test_a_link_that_its_peer_ends_is_broken(transport: Transport) -> None:
    async def accept(pipe: Pipe) -> None:
        await IncomingLink.accept(pipe, lambda hello: True)

    await transport.listen(accept)
    link = await OutgoingLink.open(await transport.dial(), HELLO)
    assert isinstance(await soon(asyncio.shield(link.broken)), LinkError)
    with pytest.raises(LinkError):
        await link.send(frames.CloseSequence(1))
    await link.close()


async def test_a_bug_in_an_acceptor_breaks_the_link_and_no_other(transport: Transport) -> None:
    async def accept(pipe: Pipe) -> None:
        if await pipe.receive() == b"bad":
            raise RuntimeError("a bug")
        await pipe.send(b"good")

    await transport.listen(accept)
    good, bad = await transport.dial(), await transport.dial()
    await bad.send(b"bad")
    assert isinstance(await broken(bad), LinkError)
    await good.send(b"fine")
    assert await soon(good.receive()) == b"good"
    for pipe in (good, bad):
        await pipe.close()


# -- cancelling and closing


async def test_a_cancelled_send_breaks_the_link_for_both(transport: Transport) -> None:
    receiver = Receiver(held=True)
    async with linked(transport, receiver) as link:
        sending = asyncio.create_task(link.send(step(1, 2 * WINDOW_BYTES)))
        await asyncio.sleep(0.01)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert isinstance(link.broken.result(), LinkError)
        with pytest.raises(LinkError):
            await link.send(frames.CloseSequence(1))
    assert receiver.entries.empty()


async def test_who_is_cancelled_while_another_sends_breaks_nothing(transport: Transport) -> None:
    receiver = Receiver()
    big = step(1, 3 * WINDOW_BYTES)
    async with linked(transport, receiver) as link:
        first = asyncio.create_task(link.send(big))
        second = asyncio.create_task(link.send(step(2, 10)))
        await asyncio.sleep(0)
        second.cancel()
        third = asyncio.create_task(link.send(frames.CloseSequence(9)))
        arrived = await receiver.take(2)
        await soon(asyncio.gather(first, third))
        assert second.cancelled()
    assert same(big, arrived[0])
    assert arrived[1] == frames.CloseSequence(9)


async def test_a_receiver_that_is_cancelled_breaks_the_link_for_its_peer(transport: Transport) -> None:
    """Its task is cancelled, not the call: a stage that is unloaded, or whose link a newer one replaces."""
    receiver = Receiver()
    await transport.listen(receiver)
    link = await OutgoingLink.open(await transport.dial(), HELLO)
    await soon(receiver.ready.wait())
    assert receiver.inner is not None
    receiver.inner.cancel()
    assert isinstance(await soon(asyncio.shield(link.broken)), LinkError)
    await link.close()
    await soon(receiver.over.wait())


@pytest.mark.parametrize("held", [True, False], ids=["while it waits for credit", "while it writes"])
async def test_closing_while_sending(transport: Transport, held: bool) -> None:
    receiver = Receiver(held=held)
    async with linked(transport, receiver) as link:
        sending = asyncio.create_task(link.send(step(1, 10 * WINDOW_BYTES)))
        waiting = asyncio.create_task(link.send(step(2, 10)))
        await asyncio.sleep(0.01)
        await soon(link.close())
        for task in (sending, waiting):
            with pytest.raises(LinkError):
                await soon(task)
        await link.close()
        with pytest.raises(LinkError, match="closed"):
            await link.send(step(3, 10))
    assert isinstance(link.broken.result(), LinkError)
    assert receiver.entries.empty()


async def test_closing_while_the_last_piece_of_the_window_is_written(transport: Transport) -> None:
    """The write succeeds although the link is closed meanwhile: the sender must not go on to wait for credit."""

    class SlowPipe(SteppedPipe):
        async def send(self, data: bytes) -> None:
            message = codec.decode(data)
            if isinstance(message, codec.Piece) and message.offset + len(message.data) == WINDOW_BYTES:
                writing.set()
                await closed.wait()
                return
            await super().send(data)

    writing, closed = asyncio.Event(), asyncio.Event()
    receiver = Receiver()
    await transport.listen(receiver)
    link = await OutgoingLink.open(SlowPipe(await transport.dial()), HELLO)
    sending = asyncio.create_task(link.send(step(1, 3 * WINDOW_BYTES)))
    await soon(writing.wait())
    await link.close()
    closed.set()
    with pytest.raises(LinkError, match="closed"):
        await soon(sending)
    await soon(receiver.over.wait())


async def test_closing_ends_an_acceptor_that_does_not_read(transport: Transport) -> None:
    """A stage that computes learns at once that nobody wants the result."""
    over = asyncio.Event()
    begun = asyncio.Event()

    async def busy(pipe: Pipe) -> None:
        await IncomingLink.accept(pipe, lambda hello: True)
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            over.set()

    await transport.listen(busy)
    link = await OutgoingLink.open(await transport.dial(), HELLO)
    await soon(begun.wait())
    await link.close()
    await soon(over.wait())


@pytest.mark.parametrize("way", ["send", "receive"])
async def test_a_closed_pipe_is_of_no_use(transport: Transport, way: str) -> None:
    async def accept(pipe: Pipe) -> None:
        await pipe.receive()
        await pipe.send(b"an answer that nobody reads")
        await pipe.receive()

    await transport.listen(accept)
    pipe = await transport.dial()
    await pipe.send(b"x")
    await asyncio.sleep(0.01)
    await pipe.close()
    await pipe.close()
    use: Callable[[], object] = pipe.receive if way == "receive" else lambda: pipe.send(b"y")
    with pytest.raises(LinkError):
        await use()  # type: ignore[misc]


async def test_a_receive_that_waits_ends_with_its_pipe(transport: Transport) -> None:
    async def accept(pipe: Pipe) -> None:
        await asyncio.Event().wait()

    await transport.listen(accept)
    pipe = await transport.dial()
    await pipe.send(b"x")
    waiting = asyncio.create_task(pipe.receive())
    await asyncio.sleep(0.01)
    await pipe.close()
    with pytest.raises(LinkError, match="closed"):
        await soon(waiting)


async def test_an_acceptor_may_still_speak_to_a_peer_that_is_gone(transport: Transport) -> None:
    """What it gets is a LinkError, whichever way the transport itself says so."""
    outcome: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()

    async def accept(pipe: Pipe) -> None:
        await pipe.receive()
        try:
            await asyncio.Event().wait()
        finally:
            try:
                for _ in range(1000):
                    await pipe.send(bytes(1000))
            except Exception as error:  # noqa: BLE001 - which kind it is, is the question
                outcome.set_result(error)

    await transport.listen(accept)
    pipe = await transport.dial()
    await pipe.send(b"x")
    await asyncio.sleep(0.05)
    await pipe.close()
    assert isinstance(await soon(outcome), LinkError)
