"""The client's load: real HTTP/1.1 connections, each counted by the response that came back.

`requests`  a new connection for each request, `--concurrency` at a time, over the targets in turn;
            ends after `--count`, or on SIGTERM when that is 0.
`hold`      opens `--count` connections and keeps all of them, one request on each every `--interval`
            seconds and, on SIGTERM, a last one; then ends. A connection that ends, times out or answers
            in another backend's name is broken, and stays so.

Every response's body names the backend. Prints one JSON object per line, with "event":
  progress  done, failed, at                                twenty times a second
  failure   target, backend, error, port, began, ended      backend: of an earlier answer on the
            connection, or null; port: the client's, or null
  held      connections [[address, port, target], ...]      `hold`: every connection had its first answer
  result    done, failed, by_target {target: {backend: n}}; `hold`: done counts connections, and requests too
at, began, ended: seconds of CLOCK_MONOTONIC.
"""

import argparse
import asyncio
import collections
import itertools
import json
import signal
import sys
import time

_TIMEOUT_S = 15.0
_PROGRESS_INTERVAL_S = 0.05
_LIMIT_BYTES = 1 << 16


class BadResponse(Exception):
    """The server answered, but not as HTTP with status 200 says."""


def split_target(target: str) -> tuple[str, int]:
    """"192.0.2.1:80" or "[2001:db8::1]:80" as address and port."""
    address, _, port = target.rpartition(":")
    return address.strip("[]"), int(port)


class Load:
    """Counts, and the events on standard output."""

    def __init__(self, arguments: argparse.Namespace):
        self.arguments = arguments
        self.stop = asyncio.Event()
        self.done = 0
        self.failed = 0
        self.requests = 0
        self.by_target: dict[str, collections.Counter[str]] = {
            target: collections.Counter() for target in arguments.target}

    def emit(self, event: str, **fields: object) -> None:
        print(json.dumps({"event": event, **fields}), flush=True)

    def failure(self, target: str, backend: str | None, error: BaseException, port: int | None, began: float) -> None:
        self.failed += 1
        text = f"{type(error).__name__}: {error}".rstrip(": ")
        self.emit("failure", target=target, backend=backend, error=text, port=port, began=began, ended=time.monotonic())

    async def report_progress(self) -> None:
        while True:
            await asyncio.sleep(_PROGRESS_INTERVAL_S)
            self.emit("progress", done=self.done, failed=self.failed, at=time.monotonic())

    def result(self) -> None:
        self.emit("result", done=self.done, failed=self.failed, requests=self.requests,
                  by_target={target: dict(counts) for target, counts in self.by_target.items()})


async def connect(target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    address, port = split_target(target)
    return await asyncio.open_connection(address, port, limit=_LIMIT_BYTES)


def address_of(writer: asyncio.StreamWriter) -> tuple[str, int]:
    """The client's own address and port."""
    return writer.get_extra_info("sockname")[:2]


async def exchange(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, path: str,
                   connection: str) -> str:
    """One request and its response; returns the body without the newline at its end."""
    writer.write(f"GET {path} HTTP/1.1\r\nHost: web\r\nConnection: {connection}\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    lines = head.split("\r\n")
    if lines[0].split(" ")[1:2] != ["200"]:
        raise BadResponse(lines[0])
    headers = dict(line.lower().split(": ", 1) for line in lines[1:] if ": " in line)
    body = await reader.readexactly(int(headers["content-length"]))
    return body.decode("latin-1").strip()


async def request_once(load: Load, target: str) -> None:
    """A connection of its own, one request on it, and its end."""
    began = time.monotonic()
    writer = None
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await connect(target)
            body = await exchange(reader, writer, load.arguments.path, "close")
            if await reader.read(1):
                raise BadResponse("more than the announced length")
        load.requests += 1
        load.done += 1
        load.by_target[target][body] += 1
    except (OSError, TimeoutError, asyncio.IncompleteReadError, BadResponse, KeyError, ValueError) as error:
        load.failure(target, None, error, address_of(writer)[1] if writer else None, began)
    finally:
        if writer is not None:
            writer.close()


async def send_requests(load: Load) -> None:
    """Workers share one sequence of targets, so that they are asked in turn and exactly `count` times."""
    targets = itertools.cycle(load.arguments.target)
    count = load.arguments.count
    sequence = itertools.repeat(None, count) if count else itertools.repeat(None)

    async def work() -> None:
        for _ in sequence:
            if load.stop.is_set():
                return
            await request_once(load, next(targets))
            if load.arguments.pause:
                await asyncio.sleep(load.arguments.pause)

    await asyncio.gather(*(work() for _ in range(load.arguments.concurrency)))


async def hold_one(load: Load, target: str, first_answer: asyncio.Semaphore, held: list) -> None:
    """One connection for as long as the load runs; goes into `held` with its first answer."""
    began = time.monotonic()
    writer = None
    backend = None
    try:
        async with asyncio.timeout(_TIMEOUT_S):
            reader, writer = await connect(target)
            backend = await exchange(reader, writer, load.arguments.path, "keep-alive")
        load.requests += 1
        load.done += 1
        load.by_target[target][backend] += 1
        held.append([*address_of(writer), target])
        first_answer.release()
        stopped = False
        while not stopped:
            stopped = await _stopped_within(load, load.arguments.interval)
            async with asyncio.timeout(_TIMEOUT_S):
                again = await exchange(reader, writer, load.arguments.path, "keep-alive")
            if again != backend:
                raise BadResponse(f"connection of {backend} was answered by {again}")
            load.requests += 1
    except (OSError, TimeoutError, asyncio.IncompleteReadError, BadResponse, KeyError, ValueError) as error:
        load.failure(target, backend, error, address_of(writer)[1] if writer else None, began)
        if backend is None:
            first_answer.release()
    finally:
        if writer is not None:
            writer.close()


async def _stopped_within(load: Load, seconds: float) -> bool:
    try:
        async with asyncio.timeout(seconds):
            await load.stop.wait()
        return True
    except TimeoutError:
        return False


async def hold(load: Load) -> None:
    """Opens the connections `concurrency` at a time, then keeps them."""
    first_answer = asyncio.Semaphore(load.arguments.concurrency)
    tasks = []
    held: list = []
    for _, target in zip(range(load.arguments.count), itertools.cycle(load.arguments.target)):
        await first_answer.acquire()
        tasks.append(asyncio.create_task(hold_one(load, target, first_answer, held)))
    for _ in range(load.arguments.concurrency):
        await first_answer.acquire()
    load.emit("held", connections=held)
    await asyncio.gather(*tasks)


async def run(arguments: argparse.Namespace) -> int:
    load = Load(arguments)
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, load.stop.set)
    progress = asyncio.create_task(load.report_progress())
    await (hold(load) if arguments.mode == "hold" else send_requests(load))
    progress.cancel()
    load.result()
    return 0 if load.failed == 0 else 1


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("mode", choices=("requests", "hold"))
    parser.add_argument("--target", action="append", required=True, help="ADDRESS:PORT; may be repeated")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--interval", type=float, default=0.5, help="seconds between a held connection's requests")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds that a worker rests after a request")
    parser.add_argument("--path", default="/")
    return asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
