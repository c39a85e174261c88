"""The fault proxy: each fault happens as told, to the byte, and nothing else does."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import partial
from itertools import pairwise

import anyio
import pytest

from optio_agents.testing.proxy import FaultProxy, Side
from tests.support.leaks import no_leaks
from tests.support.timeouts import BOUND

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(2**16):
        writer.write(data)
        await writer.drain()


class Server:
    """A real server; keeps how each connection ended, and what it heard."""

    def __init__(self, serve: Serve) -> None:
        self._serve = serve
        self.endings = list[str]()
        self.port = 0

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Server]:
        handlers = set[asyncio.Task[None]]()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task
            handlers.add(task)
            try:
                await self._serve(reader, writer)
                self.endings.append("end")
            except ConnectionError:
                self.endings.append("reset")
            except asyncio.CancelledError:  # asyncio.start_server logs it as an error
                pass
            finally:
                writer.transport.abort()
                handlers.remove(task)

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for task in handlers:
                task.cancel()
            await asyncio.gather(*handlers, return_exceptions=True)

    async def ended(self, count: int = 1) -> list[str]:
        while len(self.endings) < count:  # noqa: ASYNC110
            await anyio.sleep(0.001)
        return self.endings


@asynccontextmanager
async def proxied(
    serve: Serve = echo, *, delay: float = 0, rate: float | None = None
) -> AsyncIterator[tuple[FaultProxy, Server]]:
    """A server behind a proxy, bounded and without a trace."""
    with anyio.fail_after(BOUND):
        async with (
            no_leaks(),
            Server(serve).running() as server,
            FaultProxy("127.0.0.1", server.port, delay=delay, rate=rate) as proxy,
        ):
            yield proxy, server


@asynccontextmanager
async def connected(proxy: FaultProxy) -> AsyncIterator[Streams]:
    reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def say(streams: Streams, text: bytes) -> bytes:
    reader, writer = streams
    writer.write(text)
    return await reader.readexactly(len(text))


async def silent(reader: asyncio.StreamReader) -> bool:
    with anyio.move_on_after(0.05) as waited:
        await reader.read(1)
    return waited.cancelled_caught


async def everything(reader: asyncio.StreamReader) -> tuple[bytes, str]:
    """What arrives, and how it ends."""
    data = b""
    try:
        while more := await reader.read(2**16):
            data += more
    except ConnectionResetError:
        return data, "reset"
    return data, "end"


async def test_bytes_arrive_as_they_were_and_are_counted() -> None:
    text = bytes(range(256)) * 8192  # 2 MiB
    async with proxied() as (proxy, _), connected(proxy) as (reader, writer):
        async with anyio.create_task_group() as tasks:
            writer.write(text)
            tasks.start_soon(writer.drain)
            assert await reader.readexactly(len(text)) == text
        assert proxy.bytes_from_client == proxy.bytes_from_server == len(text)
        assert proxy.connections == proxy.open_connections == 1


async def test_an_end_is_passed_on_and_the_other_direction_stays_open() -> None:
    async def answer_at_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"all: " + await reader.read())
        await writer.drain()
        writer.write_eof()

    async with proxied(answer_at_the_end) as (proxy, server), connected(proxy) as (reader, writer):
        writer.write(b"question")
        writer.write_eof()
        assert await everything(reader) == (b"all: question", "end")
        assert await server.ended() == ["end"]
        await until(lambda: proxy.open_connections == 0)


async def test_a_reset_is_passed_on_as_a_reset() -> None:
    async with proxied() as (proxy, server), connected(proxy) as streams:
        await say(streams, b"hello")
        sock = streams[1].get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        streams[1].transport.abort()
        assert await server.ended() == ["reset"]


async def test_cut_resets_both_sides_of_all_connections() -> None:
    async with proxied() as (proxy, server), connected(proxy) as one, connected(proxy) as two:
        for streams in one, two:
            await say(streams, b"hello")
        assert proxy.cut() == 2
        for reader, _ in one, two:
            assert await everything(reader) == (b"", "reset")
        assert await server.ended(2) == ["reset", "reset"]
        async with connected(proxy) as again:
            assert await say(again, b"hello") == b"hello"


async def test_close_ends_both_sides_politely() -> None:
    async with proxied() as (proxy, server), connected(proxy) as (reader, writer):
        await say((reader, writer), b"hello")
        assert proxy.close() == 1
        assert await everything(reader) == (b"", "end")
        assert await server.ended() == ["end"]


@pytest.mark.parametrize("source", ["client", "server"])
async def test_a_stall_holds_one_direction_back(source: Side) -> None:
    async with proxied() as (proxy, _), connected(proxy) as (reader, writer):
        await say((reader, writer), b"hello")
        proxy.stall(source)
        writer.write(b"later")
        assert await silent(reader)
        await until(lambda: proxy.bytes_from_server == (5 if source == "client" else 10))
        proxy.flow(source)
        assert await reader.readexactly(5) == b"later"


async def test_a_stalled_sender_has_to_wait() -> None:
    async with proxied() as (proxy, _), connected(proxy) as (reader, writer):
        await say((reader, writer), b"hello")
        proxy.stall()
        writer.write(bytes(16_000_000))
        assert await silent(reader)
        assert proxy.bytes_from_client < 1_000_000


async def test_a_stalled_client_never_learns_that_the_server_is_gone() -> None:
    async with proxied() as (proxy, server), connected(proxy) as (reader, writer):
        await say((reader, writer), b"hello")
        proxy.stall("server")
        writer.write_eof()
        assert await server.ended() == ["end"]
        assert await silent(reader)
        proxy.flow()
        assert (await everything(reader))[0] == b""


async def test_a_stalled_connection_can_be_made_and_cut() -> None:
    async with proxied() as (proxy, _):
        proxy.stall()
        async with connected(proxy) as (reader, writer):
            writer.write(b"hello")
            assert await silent(reader)
            assert proxy.cut() == 1
            assert await everything(reader) == (b"", "reset")


async def test_a_refusing_proxy_keeps_its_connections_and_its_port() -> None:
    async with proxied() as (proxy, _), connected(proxy) as old:
        await say(old, b"hello")
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(proxy.host, proxy.port)
        assert await say(old, b"still") == b"still"
        proxy.accept()
        async with connected(proxy) as new:
            assert await say(new, b"hello") == b"hello"
        assert proxy.connections == 2


async def test_a_target_that_refuses_makes_a_reset() -> None:
    async with proxied() as (proxy, server):
        proxy.target = "127.0.0.1", _closed_port()
        async with connected(proxy) as (reader, _):
            assert await everything(reader) == (b"", "reset")
        assert server.endings == []


async def test_a_black_hole_accepts_and_never_answers() -> None:
    async with proxied() as (proxy, server):
        proxy.black_hole = True
        async with connected(proxy) as (reader, writer):
            writer.write(b"hello")
            assert await silent(reader)
            proxy.cut()
            assert await everything(reader) == (b"", "reset")
        assert server.endings == []


async def test_delay_is_paid_once_each_way_however_many_chunks() -> None:
    async with proxied(delay=0.05) as (proxy, _), connected(proxy) as (reader, writer):
        clock = asyncio.get_running_loop().time
        began = clock()
        for number in range(20):
            writer.write(b"%04d" % number)
            await anyio.sleep(0.005)  # chunks of their own: 20 sleeps of 0.05 s would show
        answer = await reader.readexactly(80)
        assert answer == b"".join(b"%04d" % number for number in range(20))
        assert 0.2 <= clock() - began < 0.6


async def test_rate_bounds_the_bytes_of_a_second() -> None:
    async with proxied(rate=200_000) as (proxy, _), connected(proxy) as (reader, writer):
        clock = asyncio.get_running_loop().time
        began = clock()
        writer.write(bytes(40_000))
        arrived = [(clock(), len(await reader.read(2**16)))]
        while sum(size for _, size in arrived) < 40_000:
            size = len(await reader.read(2**16))
            arrived.append((clock(), size))
        assert clock() - began >= 0.19
        assert max(size for _, size in arrived) < 20_000  # spread, not saved up for the end


@pytest.mark.parametrize("count", [1, 7, 70_000])
@pytest.mark.parametrize("source", ["client", "server"])
async def test_a_cut_stands_behind_its_byte(source: Side, count: int) -> None:
    heard = bytearray()

    async def note(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(2**16):
            heard.extend(data)
            if source == "server":
                writer.write(data)

    text = bytes(range(256)) * 1000
    async with proxied(note) as (proxy, server), connected(proxy) as (reader, writer):
        cut = proxy.on_bytes(count, source=source)
        assert not cut.is_set()
        writer.write(text)
        received = await everything(reader)
        assert cut.is_set()
        assert await server.ended() == ["reset"]
        assert received[1] == "reset"
        assert (received[0] if source == "server" else heard) == text[:count]


async def test_a_slow_reader_still_gets_every_byte_before_the_cut() -> None:
    async def send(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(bytes(8_000_000))
        await writer.drain()
        await reader.read()

    async with proxied(send) as (proxy, _):
        cut = proxy.on_bytes(7_000_000)
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port, limit=1024)
        await until(lambda: proxy.bytes_from_server == 8_000_000)
        assert not cut.is_set()
        data, ending = await everything(reader)
        assert (len(data), ending) == (7_000_000, "reset")
        writer.transport.abort()


async def test_close_behind_a_byte_is_a_clean_end_in_mid_message() -> None:
    async with proxied() as (proxy, _), connected(proxy) as (reader, writer):
        proxy.on_bytes(3, then=proxy.close)
        writer.write(b"hello")
        assert await everything(reader) == (b"hel", "end")


async def test_a_stall_behind_a_byte_holds_the_rest() -> None:
    async with proxied() as (proxy, _), connected(proxy) as (reader, writer):
        stalled = proxy.on_bytes(3, then=proxy.stall)
        writer.write(b"hello")
        await stalled.wait()
        assert await reader.readexactly(3) == b"hel"
        assert await silent(reader)
        proxy.flow()
        assert await reader.readexactly(2) == b"lo"


async def test_steps_are_taken_in_order_and_once() -> None:
    async with proxied() as (proxy, _), connected(proxy) as streams:
        taken = list[int]()
        for place in 5, 2, 2, 4:
            proxy.on_bytes(place, then=partial(taken.append, place))
        await say(streams, b"hello")
        assert taken == [2, 2, 4, 5]
        await say(streams, b"hello")
        assert taken == [2, 2, 4, 5]


async def test_a_step_needs_a_byte() -> None:
    async with proxied() as (proxy, _):
        with pytest.raises(ValueError, match="at least one byte"):
            proxy.on_bytes(0)


async def test_round_trips_are_answers_to_the_client() -> None:
    async def greet_and_echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"welcome")
        await echo(reader, writer)

    async with proxied(greet_and_echo, delay=0.001) as (proxy, _), connected(proxy) as streams:
        await streams[0].readexactly(7)
        counts = [proxy.round_trips()]
        for _ in range(3):
            await say(streams, b"hello")
            counts.append(proxy.round_trips())
        assert counts[0] == 0
        assert all(after - before == 1 for before, after in pairwise(counts))


async def test_the_blocks_own_error_passes_as_it_is() -> None:
    async def fail() -> None:
        async with proxied() as (proxy, _), connected(proxy) as streams:
            await say(streams, b"hello")
            raise LookupError

    with pytest.raises(LookupError):
        await fail()


@pytest.mark.parametrize("native", [False, True], ids=["scope", "task"])
async def test_a_cancelled_block_stays_cancelled(native: bool) -> None:
    reached = list[str]()

    async def wait() -> None:
        with anyio.CancelScope() as scope:
            async with FaultProxy("127.0.0.1", 1):
                reached.append("inside")
                if native:
                    task = asyncio.current_task()
                    assert task
                    task.cancel()
                else:
                    scope.cancel()
                await anyio.sleep_forever()
            reached.append("behind")

    await asyncio.gather(asyncio.create_task(wait()), return_exceptions=True)
    assert reached == ["inside"]


async def test_leaving_ends_everything_and_gives_the_port_back() -> None:
    async with proxied() as (outer, server):
        async with FaultProxy("127.0.0.1", server.port) as proxy:
            reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
            await say((reader, writer), b"hello")
            proxy.stall()
        assert (await everything(reader))[0] == b""
        writer.transport.abort()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(proxy.host, proxy.port)
        async with FaultProxy("127.0.0.1", server.port) as another:
            assert another.port != outer.port


async def until(condition: Callable[[], bool]) -> None:
    while not condition():  # noqa: ASYNC110
        await anyio.sleep(0.001)


def _closed_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
