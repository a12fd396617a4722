"""The demo's acts. Each says what it does, shows what came of it, and keeps the score."""

import contextlib
import dataclasses
import time
from collections.abc import Iterator

import screen
from judge import Kill, dropped, judge_held, judge_requests
from testbed import topology
from testbed.appliance import Appliance, DataplaneOptions
from testbed.builder import Testbed
from testbed.configuration import POOL, SERVICE_MAGLEV, members_of
from testbed.load import Connection, Failure, Load, LoadResult, http_targets
from testbed.processes import wait_until

_HELD_CONNECTIONS = 200
_REQUESTS_BEFORE_KILL = 300
_REQUESTS_AFTER_DETECTION = 500
_SHOWN_FAILURES = 5


_HOW = {
    "dpdk": ("DPDK on the veth lb0 through net_af_xdp",
             "This is a shared machine: its worker sleeps when idle (--idle sleep)"),
    "xdp": ("an XDP program on the veth lb0, which forwards without the daemon, too",),
}


@dataclasses.dataclass
class Score:
    """Requests sent, and what of them failed without a reason that the demo itself gave."""

    requests: int = 0
    failed: int = 0
    unexpected: list[str] = dataclasses.field(default_factory=list)

    def count(self, result: LoadResult, unexpected: list[Failure]) -> None:
        self.requests += result.requests + result.failed
        self.failed += len(unexpected)
        self.unexpected += [f"{one.target}: {one.error}" for one in unexpected[:_SHOWN_FAILURES]]

    def blame(self, what: str) -> None:
        self.unexpected.append(what)


class Stage:
    """The testbed with its balancer, and the score."""

    def __init__(self, testbed: Testbed, appliance: Appliance):
        self._testbed = testbed
        self._appliance = appliance
        self._held: Load | None = None
        self._kills: dict[str, Kill] = {}  # of nginx, by backend
        self.score = Score()
        self.engine = ""  # that moves packets: dpdk, xdp

    def start(self, engine: str) -> None:
        """Both daemons, and health checks that have found every backend."""
        backends = self._testbed.backends()
        screen.say(f"{len(backends)} backends, VIPs {topology.VIP_IPV4} and {topology.VIP_IPV6}")
        self._appliance.start_dataplane(DataplaneOptions(engine=engine))
        status = self._appliance.dataplane_status()
        self.engine = status["engine"]
        screen.say(f"sluice-dataplane --engine {engine}: {_HOW[self.engine][0]}")
        if engine == "auto":
            screen.say(f"it chose {self._appliance.choice_of_engine()}")
        for line in _HOW[self.engine][1:]:
            screen.say(line)
        for port in status["ports"]:
            if "mode" in port:
                screen.say(f"port {port['name']} on {port['interface']}: {port['mode']}")
        screen.say("sluiced: takes the configuration, checks the backends, publishes a snapshot")
        self._appliance.write_config(members_of(backends))
        self._appliance.start_sluiced()
        self._appliance.wait_for_states({backend.name: "up" for backend in backends})
        screen.say("every backend is up")

    def show_spread(self, requests: int) -> None:
        """Each request on a new connection, half of them over each family."""
        screen.title("How connections spread: Maglev hashing over equal weights")
        result = self._send(requests)
        self._table(result)

    def show_drain(self) -> None:
        """Draining a backend and taking it back breaks nothing."""
        screen.title("Drain b2: it keeps its connections and gets no new ones")
        self._appliance.must("drain", f"{POOL}/b2")
        self._appliance.wait_for_states({"b2": "draining"})
        result = self._send(_REQUESTS_AFTER_DETECTION)
        self._table(result)
        if result.by_backend().get("b2"):
            self.score.blame("b2 got new connections while it was drained")
        self._appliance.must("undrain", f"{POOL}/b2")
        self._appliance.wait_for_states({"b2": "up"})
        screen.say("undrained: b2 takes new connections again")

    def show_failure(self) -> None:
        """SIGKILL to b3's nginx under load, and its return."""
        screen.title("Kill b3's nginx while requests go on")
        backend = topology.backend_of_number(3)
        servers = self._testbed.servers(backend)
        share = self._appliance.backends()[backend.name]["slot_share"]
        with Load(self._testbed, "requests", 0, options=["--concurrency", "8"]) as load:
            load.wait_until_done(_REQUESTS_BEFORE_KILL)
            began = time.monotonic()
            servers.kill_nginx()
            kill = self._kills[backend.name] = Kill(began, time.monotonic())
            self._appliance.wait_for_states({backend.name: "down"})
            detected = time.monotonic()
            load.wait_until_done(load.done + _REQUESTS_AFTER_DETECTION)
            result = load.stop()
        attempts = load.attempts_between(kill.began, detected)
        verdict = judge_requests(load.failures, kill, detected, attempts, share)
        self.score.count(result, verdict.blamed)
        screen.say(f"two failed checks took it out after {detected - kill.began:.1f} s. Of {attempts} requests until then,")
        screen.say(f"{len(verdict.excused)} were refused by its kernel, about its share of {share:.0%}, as nobody could know.")
        screen.say(f"Of {result.requests + result.failed} before, meanwhile and afterwards, {len(verdict.blamed)} others "
                   "failed")
        servers.start_nginx()
        self._appliance.wait_for_states({backend.name: "up"})
        screen.say("nginx was started again: b3 is back")

    def show_addition(self, requests: int) -> None:
        """A fifth backend: what moves, in the slot table and among the connections."""
        screen.title("Add a backend")
        slots_before = self._appliance.snapshot()
        connections_before = self._connections()
        added = self._testbed.add_backend()
        self._appliance.reload(members_of(self._testbed.backends()))
        self._appliance.wait_for_states({added.name: "up"})
        before = slots_before.services[SERVICE_MAGLEV].slots
        now = self._appliance.snapshot()
        after = now.services[SERVICE_MAGLEV].slots
        new_id = next(one.identifier for one in now.backends.values() if one.name == added.name and not one.removed)
        moved = sum(1 for old, new in zip(before, after) if old != new)
        gained = sum(1 for new in after if new == new_id)
        connections = self._connections()
        held = self._still_held()
        kept = [one for one in held if one in connections_before and one in connections]
        strayed = [one for one in kept if connections[one] != connections_before[one]]
        screen.table(["", "moved", "of", "share"], [
            ["slots", moved, len(after), f"{moved / len(after):.2%}"],
            [f"  to {added.name}, as they must", gained, len(after), f"{gained / len(after):.2%}"],
            ["  between the others", moved - gained, len(after), f"{(moved - gained) / len(after):.2%}"],
            ["long-lived connections", len(strayed), len(kept), f"{len(strayed) / max(1, len(kept)):.2%}"]])
        screen.say(f"({moved / len(after):.0%} of the connections would have changed their backend without the connection "
                   "table)")
        if len(kept) < len(held):
            self.score.blame(f"the connection table lists {len(kept)} of {len(held)} long-lived connections")
        if strayed:
            self.score.blame(f"{len(strayed)} established connections changed their backend")
        self._table(self._send(requests))

    @contextlib.contextmanager
    def held_connections(self) -> Iterator[None]:
        """Long-lived connections for as long as the `with`: none may break but those of killed servers."""
        screen.title(f"Open {_HELD_CONNECTIONS} long-lived connections, half of them over each family")
        options = ["--interval", "0.25", "--concurrency", "16"]
        with Load(self._testbed, "hold", _HELD_CONNECTIONS, options=options) as load:
            screen.say(f"{load.wait_until_held()} are open, each sends four requests a second from now on")
            self._held = load
            yield
            result = load.stop()
        verdict = judge_held(load.failures, self._kills)
        self.score.count(result, verdict.blamed)
        screen.title("The long-lived connections")
        survived = _HELD_CONNECTIONS - len(load.failures)
        screen.say(f"{survived} of {_HELD_CONNECTIONS} held through all of this ({result.requests} requests on them), "
                   f"{len(verdict.excused)} ended with")
        screen.say(f"the nginx that was killed, {len(verdict.blamed)} others broke")

    def show_accounts(self) -> None:
        """Every received packet is in exactly one verdict, and none was dropped."""
        screen.title("Every packet is accounted for")

        def settled() -> bool:
            counters = self._appliance.counters()
            return counters.sum_of_verdicts() == counters.received_packets

        wait_until(settled, 10, "the sum of the verdicts to equal the received packets")
        counters = self._appliance.counters()
        screen.table(["verdict", "packets"],
                     [[name, packets] for name, packets in counters.verdicts.items() if packets])
        screen.say(f"sum {counters.sum_of_verdicts()}, received {counters.received_packets}")
        for line in dropped(counters.verdicts):
            self.score.blame(line)

    def _still_held(self) -> list[Connection]:
        assert self._held is not None
        return self._held.still_held()

    def _send(self, requests: int) -> LoadResult:
        progress = screen.Progress(f"{requests} requests")
        with Load(self._testbed, "requests", requests) as load:
            while not load.is_over:
                progress.show(f"{load.done} answered")
                time.sleep(0.1)
            result = load.finish()
        self.score.count(result, load.failures)
        progress.done(f"{result.done} answered, {result.failed} failed")
        return result

    def _table(self, result: LoadResult) -> None:
        ipv4, ipv6 = (result.by_target[target] for target in http_targets())
        slots = self._appliance.backends()
        rows = []
        for backend in self._testbed.backends():
            four, six = ipv4.get(backend.name, 0), ipv6.get(backend.name, 0)
            rows.append([backend.name, four, six, four + six, f"{(four + six) / max(1, result.done):.1%}",
                         f"{slots[backend.name]['slot_share']:.1%}"])
        screen.table(["backend", "IPv4", "IPv6", "both", "share", "slots"], rows)

    def _connections(self) -> dict[Connection, str]:
        """Established TCP connections in the connection table: their backends."""
        answer = self._appliance.query("connections", "--service", SERVICE_MAGLEV, "--limit", "100000")
        return {Connection(one["client"], one["client_port"], one["vip"], one["vip_port"]): one["backend"]
                for one in answer["connections"] if one["state"] == "established"}
