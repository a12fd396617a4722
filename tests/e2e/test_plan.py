"""What `sluicectl plan` says of a change, and what then happens; revisions, rollbacks and confirmations."""

import contextlib
import json
import os
import pathlib
import random
import select
import socket
import tempfile
import time
from collections.abc import Iterator

import packets
from harness import BalancedTestbed
from testbed import topology
from testbed.commands import socket_in
from testbed.configuration import POOL, SERVICE_MAGLEV, Extras, Member, configuration, members_of
from testbed.dataplane_client import Snapshot
from testbed.network import BALANCER_FABRIC_PORT

_FAST = "interval: 200ms, timeout: 200ms, rise: 1, fall: 5"
_CHANGES = 60  # on each engine
_CONNECTIONS = 48
_ANSWER_S = 2.0
_HASH_VALUES = 1 << 32
_TABLE_SIZES = (65537, 251, 4093)
_CONFLICT = 6  # exit codes: tools/sluicectl/exit_codes.h
_REQUEST = b"GET / HTTP/1.1\r\nHost: web\r\n\r\n"


def moved_share(before: tuple[int, ...], after: tuple[int, ...]) -> float:
    """Of all hash values, those that had a backend and have another one or none. A value h names slot
    h * slots >> 32 (dataplane/core/hash.h)."""
    if not before:
        return 0.0
    if len(before) == len(after):
        return sum(one != 0 and one != other for one, other in zip(before, after)) / len(before)
    if not after:
        return 1.0
    edges = sorted({-(-i * _HASH_VALUES // len(slots)) for slots in (before, after) for i in range(len(slots))})
    edges.append(_HASH_VALUES)
    return sum(end - begin for begin, end in zip(edges, edges[1:])
               if before[begin * len(before) >> 32] not in (0, after[begin * len(after) >> 32])) / _HASH_VALUES


class _Connection:
    """An open HTTP connection, and the backend at its other end."""

    def __init__(self, netns: str, vip: str):
        family = socket.AF_INET6 if ":" in vip else socket.AF_INET
        self.socket = socket_in(netns, family, socket.SOCK_STREAM)
        self.socket.settimeout(_ANSWER_S)
        self.socket.connect((vip, topology.HTTP_PORT))
        self.socket.sendall(_REQUEST)
        self.vip = vip
        self.port = self.socket.getsockname()[1]
        self.backend = self.read()

    def read(self) -> str:
        """The body of the answer: the backend's name. OSError if there is none."""
        text = b""
        while b"\r\n\r\n" not in text or not text.endswith(b"\n"):
            some = self.socket.recv(4096)
            if not some:
                raise ConnectionError("the connection has ended")
            text += some
        return text.rpartition(b"\r\n\r\n")[2].decode().strip()


class Plan(BalancedTestbed):
    def setUp(self) -> None:
        self._directory = self.enterContext(tempfile.TemporaryDirectory())
        self.enterContext(self.config_restored())
        self.enterContext(self.weights_restored())
        self._members: list[Member] = members_of(self.testbed.backends())
        self._vips = [topology.VIP_IPV4, topology.VIP_IPV6]
        self._table_size = _TABLE_SIZES[0]
        self._drained: set[str] = set()

    @contextlib.contextmanager
    def weights_restored(self) -> Iterator[None]:
        try:
            yield
        finally:
            for member in members_of(self.testbed.backends()):
                self.appliance.sluicectl("undrain", f"{POOL}/{member.backend.name}")
                self.appliance.sluicectl("weight", f"{POOL}/{member.backend.name}", "configured")

    def file(self) -> str:
        """The configuration as this test has it now."""
        # What was broken leaves an embryonic entry, which counts as live as long as it can be one.
        text = configuration(self._members, Extras(pace=_FAST, of_pool=(f"slots: {self._table_size}",),
                                                   of_service=("timeouts: {embryonic: 1s}",)))
        head, first, rest = text.partition(f'    vips: [{topology.VIP_IPV4}, "{topology.VIP_IPV6}"]\n')
        text = head + "    vips: [" + ", ".join(f'"{vip}"' for vip in self._vips) + "]\n" + rest if first else text
        path = pathlib.Path(self._directory) / "new.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    def slots(self, snapshot: Snapshot) -> tuple[int, ...]:
        return snapshot.services[SERVICE_MAGLEV].slots

    # -- forecast and reality -------------------------------------------------------------------------------------

    def random_change(self, source: random.Random) -> tuple[str, ...]:
        """A change as sluicectl takes it; the configuration is changed to match."""
        kind = source.choice(("remove", "add", "weight", "drain", "undrain", "deadline", "vip", "slots"))
        all_members = {member.backend.name: member for member in members_of(self.testbed.backends())}
        present = {member.backend.name for member in self._members}
        name = source.choice(sorted(present))
        if len(self._vips) == 1:
            self._vips = [topology.VIP_IPV4, topology.VIP_IPV6]
            return "apply", "-f", self.file()
        if kind in ("remove", "drain", "deadline") and len(present - self._drained - {name}) < 2:
            kind = "undrain"  # somebody must be left for the connections to come
        if kind == "remove":
            self._members = [member for member in self._members if member.backend.name != name]
        elif kind == "add" and len(present) < len(all_members):
            self._members.append(all_members[source.choice(sorted(set(all_members) - present))])
        elif kind == "weight":
            return "weight", f"{POOL}/{name}", str(source.choice((10, 50, 200, 400)))
        elif kind == "undrain":
            self._drained.discard(name)
            return kind, f"{POOL}/{name}"
        elif kind == "drain":
            self._drained.add(name)
            return kind, f"{POOL}/{name}"
        elif kind == "deadline":
            self._drained.add(name)
            return "drain", f"{POOL}/{name}", "--deadline", "1s"
        elif kind == "vip":
            self._vips = [source.choice(self._vips)]
        elif kind == "slots":
            self._table_size = source.choice(_TABLE_SIZES)
        return "apply", "-f", self.file()

    def open_connections(self, connections: list[_Connection]) -> None:
        """Up to the number, on the VIPs that the service has."""
        while len(connections) < _CONNECTIONS:
            connections.append(_Connection(self.testbed.network.client, self._vips[len(connections) % len(self._vips)]))

    def broken(self, connections: list[_Connection]) -> list[_Connection]:
        """Those that are not answered by the backend of before; they are taken out."""
        waiting = {}
        lost = []
        for one in connections:
            try:
                one.socket.sendall(_REQUEST)
                waiting[one.socket] = one
            except OSError:
                lost.append(one)
        deadline = time.monotonic() + _ANSWER_S
        while waiting and (left := deadline - time.monotonic()) > 0:
            for ready in select.select(list(waiting), [], [], left)[0]:
                one = waiting.pop(ready)
                try:
                    if one.read() != one.backend:
                        lost.append(one)
                except OSError:
                    lost.append(one)
        lost += waiting.values()
        for one in lost:
            connections.remove(one)
        return lost

    def only_these_are_live(self, connections: list[_Connection]) -> bool:
        """Resets what else the connection table has: clients' hosts have given it up while the VIP was away, or one
        CPU under XDP does not know of an end that another one saw."""
        held = {(one.vip, one.port) for one in connections}
        listed = self.appliance.query("connections", "--service", SERVICE_MAGLEV)["connections"]
        newest = {(one["vip"], one["client_port"]): one for one in
                  sorted(listed, key=lambda one: (-one["idle_s"], one["state"] == "closing"))}
        live = {end for end, one in newest.items() if one["state"] != "closing"}
        cpus = os.sched_getaffinity(0)
        try:
            for cpu in cpus:
                os.sched_setaffinity(0, {cpu})
                self.inject_resets(live - held)
        finally:
            os.sched_setaffinity(0, cpus)
        return live == held

    def inject_resets(self, ends: set[tuple[str, int]]) -> None:
        with socket_in(self.testbed.network.fabric, socket.AF_PACKET, socket.SOCK_RAW) as raw:
            injector = packets.Injector(raw, BALANCER_FABRIC_PORT)
            for vip, port in ends:
                reset = packets.tcp(port, flags=packets.TCP_RST)
                injector.send(packets.ethernet(packets.ETHERTYPE_IPV6, packets.ipv6(6, reset)) if ":" in vip
                              else packets.ethernet(packets.ETHERTYPE_IPV4, packets.ipv4(6, reset)))

    def forecast_of(self, plan: dict, phase: str) -> dict:
        """Of the service; zeros where nothing is said of it."""
        none = {"moved_share": 0.0, "connections": {"moved": 0, "broken": 0, "until_deadline": 0}}
        named = [one for one in plan[phase]["services"] if one["service"] == SERVICE_MAGLEV]
        return named[0] if named else none

    def settle(self) -> Snapshot:
        """The snapshot once no check and no deadline is about to change it."""
        expected = {member.backend.name for member in self._members}

        def settled() -> bool:
            states = {name: one["state"] for name, one in self.appliance.backends().items() if name in expected}
            return expected == set(states) and set(states.values()) <= {"up", "drained", "draining"}

        self.wait_until(settled, f"backends {sorted(expected)} are up or drained")
        return self.appliance.snapshot()

    def test_forecasts_are_what_happens(self) -> None:
        """Of random changes, to the slot and to the connection."""
        source = random.Random(20261122)
        connections: list[_Connection] = []
        lost: list[_Connection] = []
        counts = {"changes": 0, "moved slots": 0, "broken connections": 0}
        forecast_connections = real_connections = 0
        self.appliance.must("apply", "-f", self.file(), "--force")
        while counts["changes"] < _CHANGES:
            before = self.settle()
            if len(self._vips) == 2:  # the resets get through
                for one in lost:
                    one.socket.close()
                lost.clear()
                self.open_connections(connections)
                self.wait_until(lambda: self.only_these_are_live(connections), f"{_CONNECTIONS} live connections")
            change = self.random_change(source)
            plan = json.loads(self.appliance.must("-o", "json", "plan", *change))["plan"]
            self.assertEqual(self.appliance.snapshot(), before, "a plan changes nothing")
            if plan is None:
                continue  # it is so already
            result = self.appliance.sluicectl(*change, "--force")
            self.assertEqual(result.status, 0, result.errors)
            after = self.settle()
            phase = "once_up" if plan["once_up"] else "at_once"
            share = moved_share(self.slots(before), self.slots(after))
            self.assertEqual(self.forecast_of(plan, phase)["moved_share"], share, f"{change} {plan}")
            at_once = self.forecast_of(plan, "at_once")["connections"]
            ends = at_once["until_deadline"]
            if "--deadline" in change:
                name = change[1].partition("/")[2]
                self.wait_until(lambda name=name: self.appliance.backends()[name]["drain_over"], "the deadline")
            lost_now = self.broken(connections)
            lost += lost_now
            self.assertEqual(at_once["moved"] + at_once["broken"] + ends, len(lost_now), f"{change} {plan}")
            forecast_connections += at_once["moved"] + at_once["broken"] + ends
            real_connections += len(lost_now)
            counts["changes"] += 1
            counts["moved slots"] += share > 0
            counts["broken connections"] += len(lost_now) > 0
        print(f"{self.id()}: {counts}; {forecast_connections} connections were to end, {real_connections} did", flush=True)
        self.assertGreater(counts["moved slots"], _CHANGES // 4)
        self.assertGreater(counts["broken connections"], 3)

    def test_too_much_is_refused_unless_it_is_forced(self) -> None:
        self.appliance.must("apply", "-f", self.file(), "--force")
        connections: list[_Connection] = []
        self.open_connections(connections)
        before = self.appliance.snapshot()
        self._vips = [topology.VIP_IPV6]
        refused = self.appliance.sluicectl("apply", "-f", self.file())
        self.assertEqual(refused.status, _CONFLICT, refused.errors)
        self.assertIn(f"live connections of service {SERVICE_MAGLEV} (max_moved.connections: 10%)", refused.errors)
        self.assertIn("--force", refused.errors)
        self.assertEqual(self.appliance.snapshot(), before)
        self.assertEqual(self.broken(connections), [])
        self.appliance.must("apply", "-f", self.file(), "--force")
        self.assertGreater(len(self.broken(connections)), _CONNECTIONS // 4)

    # -- revisions ------------------------------------------------------------------------------------------------

    def newest(self) -> int:
        return self.appliance.query("status")["revision"]

    def test_revisions_are_told_and_rolled_back(self) -> None:
        self.appliance.must("apply", "-f", self.file(), "--force", "-m", "the beginning")
        first = self.newest()
        self._table_size = 251
        difference = self.appliance.must("diff", "-f", self.file())
        self.assertEqual(difference, f"~ pools/{POOL}/slots: 65537 -> 251\n")
        self.appliance.must("apply", "-f", self.file(), "-m", "smaller")
        self.assertEqual(self.newest(), first + 1)
        self.appliance.must("drain", f"{POOL}/b2")
        self.assertEqual(self.newest(), first + 2)
        listed = self.appliance.query("revisions", "--limit", "3")["revisions"]
        self.assertEqual([one["action"] for one in listed], ["drain", "apply", "apply"])
        self.assertEqual([one["message"] for one in listed], ["", "smaller", "the beginning"])
        self.assertEqual(self.appliance.must("diff", str(first + 2)), f"+ orders/{POOL}/b2: drain\n")
        self.assertTrue(listed[0]["author"])
        self.assertEqual(self.appliance.must("diff", str(first), str(first + 1)), difference)
        conflict = self.appliance.sluicectl("rollback", str(first), "--if-revision", str(first))
        self.assertEqual(conflict.status, _CONFLICT, conflict.errors)
        self.appliance.must("rollback", str(first))
        self.assertEqual(len(self.slots(self.appliance.snapshot())), 65537)
        self.assertIn(self.appliance.backends()["b2"]["state"], ("draining", "drained"), "orders stay")
        self.assertEqual(self.appliance.sluicectl("rollback", "999999").status, 3)

    def test_what_was_applied_is_there_after_a_restart_until_the_file_changes(self) -> None:
        self._table_size = 251
        self.appliance.must("apply", "-f", self.file(), "--force")
        revision = self.newest()
        self.appliance.must("weight", f"{POOL}/b1", "50")
        self.appliance.stop_sluiced()
        self.appliance.start_sluiced()
        self.settle()
        self.assertEqual(len(self.slots(self.appliance.snapshot())), 251)
        self.assertEqual(self.newest(), revision + 1)
        status = self.appliance.query("status")
        self.assertTrue(status["config"]["differs_from_file"])
        b1 = self.appliance.backends()["b1"]
        self.assertEqual((b1["weight"], b1["configured_weight"]), (50, 100))
        self.appliance.stop_sluiced()
        self.appliance.write_config(self._members, Extras(pace=_FAST, of_pool=("slots: 4093",)))
        self.appliance.start_sluiced()
        self.settle()
        self.assertEqual(len(self.slots(self.appliance.snapshot())), 4093)
        self.assertFalse(self.appliance.query("status")["config"]["differs_from_file"])

    def test_what_is_not_confirmed_goes(self) -> None:
        self.appliance.must("apply", "-f", self.file(), "--force")
        self._table_size = 251
        self.appliance.must("apply", "-f", self.file(), "--confirm", "2s")
        on_trial = self.newest()
        self.assertIn(f"sluicectl confirm {on_trial}", self.appliance.must("status"))
        self.assertEqual(self.appliance.sluicectl("reload").status, _CONFLICT)
        self.wait_until(lambda: len(self.slots(self.appliance.snapshot())) == 65537, "it goes back by itself")
        last = self.appliance.query("revisions", "--limit", "1")["revisions"][0]
        self.assertEqual((last["author"], last["action"]), ("sluiced", "rollback"))
        self.assertEqual(last["message"], f"revision {on_trial} was not confirmed in time")

        self.appliance.must("apply", "-f", self.file(), "--confirm", "1s")
        self.appliance.must("confirm", str(self.newest()))
        time.sleep(1.5)
        self.assertEqual(len(self.slots(self.appliance.snapshot())), 251)

        self._table_size = 4093
        self.appliance.must("apply", "-f", self.file(), "--confirm", "1s")
        self.appliance.stop_sluiced()
        time.sleep(1.5)
        self.appliance.start_sluiced()
        self.settle()
        self.assertEqual(len(self.slots(self.appliance.snapshot())), 251, "its time was over while sluiced was away")
