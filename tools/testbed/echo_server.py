"""A backend's server for what nginx does not do: UDP, and uploads that are read to the end.

UDP: each datagram comes back behind the backend's name and a space. TCP: the client sends until it
shuts down its sending side, and gets "NAME BYTES SHA256\\n".
"""

import argparse
import asyncio
import hashlib
import pathlib
import signal
import socket
import typing

_READ_SIZE_BYTES = 1 << 16


class UdpEcho(asyncio.DatagramProtocol):
    """Answers from the address that it is bound to: the VIP."""

    def __init__(self, name: str):
        self._name = name.encode()
        self._transport: asyncio.DatagramTransport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = typing.cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple) -> None:
        typing.cast(asyncio.DatagramTransport, self._transport).sendto(self._name + b" " + data, addr)


async def digest(name: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Reads one upload to its end and answers with its digest."""
    sha256 = hashlib.sha256()
    size = 0
    try:
        while data := await reader.read(_READ_SIZE_BYTES):
            sha256.update(data)
            size += len(data)
        writer.write(f"{name} {size} {sha256.hexdigest()}\n".encode())
        await writer.drain()
    except ConnectionError:
        pass  # The client is the one that reports it.
    finally:
        writer.close()


async def serve(arguments: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    for address in arguments.address:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        await loop.create_datagram_endpoint(lambda: UdpEcho(arguments.name), family=family,
                                            local_addr=(address, arguments.udp_port))
        await asyncio.start_server(lambda reader, writer: digest(arguments.name, reader, writer),
                                   address, arguments.tcp_port, family=family, backlog=1024)
    pathlib.Path(arguments.ready_file).touch()
    await stop.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--address", action="append", required=True)
    parser.add_argument("--udp-port", type=int, required=True)
    parser.add_argument("--tcp-port", type=int, required=True)
    parser.add_argument("--ready-file", required=True)
    asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
