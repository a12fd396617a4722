"""Clients that open a connection each and wait for no more than that it is open."""

import contextlib
import selectors
import socket
import threading
import time

from testbed.commands import socket_in

_EVERY_S = 0.04
_PATIENCE_S = 4.0  # as long as a client may wait for an answer


class Knocking:
    """From the `with` to its end, new connections, one after another, to each of the VIPs. Those that are answered or
    refused are closed, the others given up after a while."""

    def __init__(self, netns: str, vips: tuple[tuple[socket.AddressFamily, str], ...], port: int):
        self._netns = netns
        self._targets = [(family, (vip, port)) for family, vip in vips]
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="knocking")
        self._error: BaseException | None = None

    def __enter__(self) -> "Knocking":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            with selectors.DefaultSelector() as waiting, contextlib.closing(_Closing(waiting)):
                while not self._stop.wait(_EVERY_S):
                    for family, address in self._targets:
                        self._knock(waiting, family, address)
                    self._close_what_is_over(waiting)
        except BaseException as error:  # pylint: disable=broad-except  # of the thread: the test's to raise
            self._error = error

    def _knock(self, waiting: selectors.BaseSelector, family: socket.AddressFamily, address: tuple[str, int]) -> None:
        knock = socket_in(self._netns, family, socket.SOCK_STREAM)
        knock.setblocking(False)
        knock.connect_ex(address)
        waiting.register(knock, selectors.EVENT_WRITE, time.monotonic() + _PATIENCE_S)

    @staticmethod
    def _close_what_is_over(waiting: selectors.BaseSelector) -> None:
        over = {key.fd: key for key, _ in waiting.select(0)}
        now = time.monotonic()
        over |= {key.fd: key for key in waiting.get_map().values() if key.data < now}
        for key in over.values():
            waiting.unregister(key.fileobj)
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()


class _Closing:
    """Closes the sockets that are still waited for."""

    def __init__(self, waiting: selectors.BaseSelector):
        self._waiting = waiting

    def close(self) -> None:
        for key in list(self._waiting.get_map().values()):
            assert isinstance(key.fileobj, socket.socket)
            key.fileobj.close()
