"""A backend's life, from the traffic's side: drains and their deadlines, slow start, quorums, damping,
maintenance, and how long a killed backend gets new connections."""

import contextlib
import pathlib
import threading
import time
from collections.abc import Iterator

from harness import VIP_URLS, BalancedTestbed
from testbed.appliance import CommandResult
from testbed.commands import enter, run
from testbed.configuration import POOL, SERVICE_MAGLEV, Extras, members_of
from testbed.dataplane_client import Snapshot
from testbed.load import Load

_HELD = 80
_HOLD_OPTIONS = ("--interval", "0.2", "--concurrency", "16")
_FAST = "interval: 200ms, timeout: 200ms, rise: 1, fall: 2"
_RAMP_STEPS = 20  # kRampSteps of dataplane/abi/snapshot.h


class _Command(threading.Thread):
    """A sluicectl that goes on while the test does."""

    def __init__(self, test: BalancedTestbed, *arguments: str):
        super().__init__(daemon=True)
        self.result: CommandResult | None = None
        self._test = test
        self._arguments = arguments
        self.start()

    def run(self) -> None:
        self.result = self._test.appliance.sluicectl(*self._arguments)

    def wait(self) -> CommandResult:
        self.join(30)
        assert self.result is not None, "sluicectl did not end"
        return self.result


class Lifecycle(BalancedTestbed):
    def state(self, name: str) -> dict:
        return self.appliance.backends()[name]

    def wait_for_state(self, name: str, state: str) -> None:
        self.wait_until(lambda: self.state(name)["state"] == state, f"{name} is {state}")

    @contextlib.contextmanager
    def held(self, count: int = _HELD) -> Iterator[Load]:
        with Load(self.testbed, "hold", count, options=_HOLD_OPTIONS) as load:
            self.assertEqual(load.wait_until_held(), count, load.failures)
            yield load

    @contextlib.contextmanager
    def configured(self, extras: Extras, members: list | None = None) -> Iterator[None]:
        with self.config_restored():
            self.appliance.reload(members or members_of(self.testbed.backends()), extras)
            self.appliance.wait_for_states({one.backend.name: "up" for one in members} if members else self.all_up())
            yield

    @contextlib.contextmanager
    def silenced(self, number: int) -> Iterator[None]:
        """A backend that answers no TCP from one moment to the next."""
        netns = self.testbed.network.of_backend(self.testbed.backends()[number - 1])
        for command in ("add table inet cut",
                        "add chain inet cut input { type filter hook input priority 0; }",
                        "add rule inet cut input meta l4proto tcp drop"):
            run(enter(netns, ["nft", command]))
        try:
            yield
        finally:
            run(enter(netns, ["nft", "delete table inet cut"]))

    @contextlib.contextmanager
    def without_nginx(self, *numbers: int) -> Iterator[None]:
        servers = [self.testbed.servers(self.testbed.backends()[number - 1]) for number in numbers]
        for one in servers:
            one.kill_nginx()
        try:
            yield
        finally:
            for one in servers:
                if not one.nginx_is_alive():
                    one.start_nginx()

    def backends_of_requests(self, count: int = 100) -> dict[str, int]:
        """Which backends answered as many new connections; all of them were answered."""
        with Load(self.testbed, "requests", count) as load:
            result = load.finish()
        self.assertEqual(load.failures, [])
        return result.by_backend()

    def held_on(self, load: Load, backend: str) -> int:
        """How many of the held connections the table gives to a backend. It may have others, whose end the
        balancer has not seen: a backend's reset goes to the client alone."""
        listed = self.appliance.query("connections", "--backend", f"{POOL}/{backend}", "--limit", "10000")
        of_backend = {(one["client"], one["client_port"]) for one in listed["connections"]}
        return sum((one.client, one.client_port) in of_backend for one in load.still_held())

    def test_drain_waits_for_the_last_connection_and_tells_how_many_are_left(self) -> None:
        with self.held() as load:
            command = _Command(self, "drain", f"{POOL}/b4", "--deadline", "20s", "--wait")
            try:
                self.wait_for_state("b4", "draining")
                self.wait_until(lambda: self.state("b4")["connections_left"], "the connections that are left")
                left = self.state("b4")["connections_left"]
                self.assertGreaterEqual(left, self.held_on(load, "b4"))
                self.assertIn(f"connections left: {left}", self.state("b4")["reason"])
                self.assertNotIn("b4", self.backends_of_requests())
                self.assertIsNone(command.result)
                result = load.stop()
                self.assertEqual(load.failures, [])
                self.assertGreaterEqual(result.requests, 2 * _HELD)
                done = command.wait()
                self.assertEqual(done.status, 0, done.errors)
                self.assertIn(f"connections left: {left}, given up in", done.errors)
                # Under XDP a flow that has changed its CPU is in two tables, and ends in one of them.
                how = "no connections are left" + ("" if self.options.engine == "dpdk" else "|the deadline has passed")
                self.assertRegex(done.errors, how)
                self.assertEqual(self.state("b4")["state"], "drained")
            finally:
                self.appliance.must("undrain", f"{POOL}/b4")
        self.wait_for_state("b4", "up")

    def test_past_its_deadline_a_drain_resets_what_is_left_and_nothing_else(self) -> None:
        with self.held() as load:
            on_b2 = self.held_on(load, "b2")
            self.assertGreater(on_b2, 0)
            try:
                self.appliance.must("drain", f"{POOL}/b2", "--deadline", "2s")
                self.wait_until(lambda: self.state("b2")["state"] == "drained", "b2's deadline")
                self.assertIn("the deadline has passed", self.state("b2")["reason"])
                self.wait_until(lambda: len(load.failures) >= on_b2, "b2's connections are reset")
                load.stop()
                self.assertEqual(len(load.failures), on_b2)
                self.assertEqual({one.backend for one in load.failures}, {"b2"})
                self.assertEqual({one.kind for one in load.failures}, {"ConnectionResetError"})
            finally:
                self.appliance.must("undrain", f"{POOL}/b2")
        self.wait_for_state("b2", "up")

    def test_maintenance_stops_checks_and_connections_and_its_end_begins_with_a_check(self) -> None:
        with self.configured(Extras(pace=_FAST)):
            try:
                self.appliance.must("maintenance", f"{POOL}/b3", "--deadline", "2s", "--wait")
                with self.without_nginx(3):
                    self.assertNotIn("b3", self.backends_of_requests())
                    self.assertEqual(self.state("b3")["state"], "maintenance")
                    self.assertEqual(self.state("b3")["last_check"], "")
                    self.appliance.must("maintenance", f"{POOL}/b3", "--end")
                    self.wait_for_state("b3", "down")
                self.wait_for_state("b3", "up")
            finally:
                self.appliance.must("maintenance", f"{POOL}/b3", "--end")

    def slots_of_web(self, snapshot: Snapshot) -> tuple[list[str], int]:
        """The name of each slot's backend, and how far b4's slow start is."""
        names = {one.identifier: one.name for one in snapshot.backends.values()}
        step = max((one.ramp_step for one in snapshot.backends.values() if one.name == "b4"), default=0)
        present = any(one.name == "b4" and one.state == "up" for one in snapshot.backends.values())
        return [names[slot] for slot in snapshot.services[SERVICE_MAGLEV].slots], step or (_RAMP_STEPS if present else 0)

    def test_slow_start_moves_few_slots_at_a_time_and_no_connection(self) -> None:
        """b4 joins three others under load. Each step changes at most its part of the slots; no held connection
        breaks; the share of new connections follows the slots."""
        members = members_of(self.testbed.backends())
        extras = Extras(pace=_FAST, of_pool=("slow_start: 6s",))
        with self.configured(extras, members[:3]), self.held() as held:
            table, step = self.slots_of_web(self.appliance.snapshot())
            self.assertEqual(step, 0)
            plot = []
            began = time.monotonic()
            # Slowly enough that no client's port comes round again: a CPU that still has the copy of a connection
            # of before would send the new one where that one was.
            with Load(self.testbed, "requests", 0, options=["--concurrency", "4", "--pause", "0.02"]) as load:
                self.appliance.reload(members, extras)
                while step < _RAMP_STEPS:
                    now, next_step = self.slots_of_web(self.appliance.snapshot())
                    moved = sum(1 for old, new in zip(table, now) if old != new)
                    if next_step != step:
                        self.assertLessEqual(moved, (next_step - step) * (len(now) // _RAMP_STEPS + 1))
                        share = now.count("b4") / len(now)
                        plot.append((time.monotonic() - began, share, moved / len(now)))
                        self.assertAlmostEqual(share, next_step / _RAMP_STEPS / 4, delta=0.01)
                    else:
                        self.assertEqual(moved, 0)
                    table, step = now, next_step
                    self.assertLess(time.monotonic() - began, 30)
                    time.sleep(0.02)
                result = load.stop()
            self.assertEqual(load.failures, [])
            self.assertGreater(len(plot), _RAMP_STEPS // 2)
            self.assertLess(result.by_backend()["b4"] / result.done, 0.25, "less than its whole share on the way")
            self.assertGreater(self.backends_of_requests(400)["b4"], 50)
            held.stop()
            self.assertEqual(held.failures, [])
        print(f"{self.id()}: share of b4's slots, and slots moved by the step; {_HELD} held connections, none moved")
        for at, share, moved in plot:
            print(f"  {at:5.2f} s {share:6.1%} {moved:6.2%} {'#' * round(share * 200)}")

    def test_below_its_quorum_a_service_is_withdrawn_and_comes_back(self) -> None:
        quorum = "quorum: {min: 3, recover: 4, action: withdraw}"
        with self.configured(Extras(pace=_FAST, of_service=(quorum,))):
            with self.without_nginx(1, 2):
                self.wait_until(self.is_below_quorum, "two of four are too few")
                self.assertIn("withdrawn", self.appliance.must("services", SERVICE_MAGLEV))
                before = self.appliance.counters().verdicts["drop_no_backend"]
                self.assertEqual(self.appliance.snapshot().services[SERVICE_MAGLEV].slots, ())
                for url in VIP_URLS:
                    with self.assertRaisesRegex(Exception, "status 28"):
                        self.curl(url, "--connect-timeout", "1")
                self.assertGreater(self.appliance.counters().verdicts["drop_no_backend"], before)
                self.testbed.servers(self.testbed.backends()[0]).start_nginx()
                self.wait_for_state("b1", "up")
                self.assertTrue(self.is_below_quorum(), "three are not enough to recover")
            self.wait_until(lambda: not self.is_below_quorum(), "four are enough")
            self.assertGreater(len(self.backends_of_requests()), 2)

    def is_below_quorum(self) -> bool:
        return self.appliance.query("services", SERVICE_MAGLEV)["quorum"]["below"]

    def test_below_its_quorum_a_service_goes_to_its_backup_pool_and_keeps_its_connections(self) -> None:
        members = members_of(self.testbed.backends())
        extras = Extras(pace=_FAST,
                        of_service=("quorum: {min: 2, action: backup-pool, backup_pool: standby}",),
                        pools=(f'{{name: standby, slots: 251, backends: [{{name: s4, address: "{members[3].address}"}}]}}',))
        with self.configured(extras, members[:3]), self.held() as held:
            with self.without_nginx(1, 2):
                self.wait_until(self.is_below_quorum, "one of three is too few")
                self.assertEqual(set(self.backends_of_requests()), {"b4"})
            self.wait_until(lambda: not self.is_below_quorum(), "all are back")
            self.assertNotIn("b4", self.backends_of_requests())
            held.stop()
            self.assertEqual({one.backend for one in held.failures} - {"b1", "b2"}, set(), "b3's went on")

    def test_flapping_backend_is_held_until_it_has_been_well(self) -> None:
        extras = Extras(pace=_FAST, of_pool=("flap_damping: {falls: 2, window: 60s, hold: 10s}",))
        with self.configured(extras):
            for _ in range(2):
                with self.without_nginx(3):
                    self.wait_for_state("b3", "down")
                self.wait_until(lambda: self.state("b3")["health"] == "up", "b3 answers")
                if self.state("b3")["state"] == "down":
                    break
                self.wait_for_state("b3", "up")
            self.assertEqual(self.state("b3")["state"], "down")
            self.assertRegex(self.state("b3")["reason"], "went down 2 times within 60 s: held for another [0-9]+ s")
            self.assertNotIn("b3", self.backends_of_requests())
            self.wait_for_state("b3", "up")
            self.assertIn("b3", self.backends_of_requests())

    def test_killed_backend_gets_no_new_connections_once_it_is_known_to_be_down(self) -> None:
        """Prints how long clients were refused: at most fall x interval, and what it takes to publish."""
        with self.configured(Extras(pace=_FAST)), Load(self.testbed, "requests", 0) as load:
            load.wait_until_done(200)
            killed = time.monotonic()
            with self.without_nginx(3):
                self.wait_for_state("b3", "down")
                load.wait_until_done(load.done + 500)
                last = max((one.began for one in load.failures), default=killed)
                load.stop()
            # Some were under way when it was killed.
            self.assertLessEqual({one.kind for one in load.failures},
                                 {"ConnectionRefusedError", "ConnectionResetError", "IncompleteReadError"})
            print(f"{self.id()}: {len(load.failures)} failures until {(last - killed) * 1000:.0f} ms after the kill, "
                  "with two checks 200 ms apart", flush=True)

    def test_silent_backend_is_taken_out_of_the_tables(self) -> None:
        """Prints how long that took: at most fall x interval, and what it takes to publish."""
        pace = "interval: 400ms, timeout: 200ms, rise: 1, fall: 2"
        with self.configured(Extras(pace=pace)):
            began = time.monotonic()
            with self.silenced(3):
                self.wait_until(lambda: self.state_in_tables("b3") == "down", "b3 is out of the tables")
                took = time.monotonic() - began
                self.assertNotIn("b3", self.backends_of_requests())
                self.assertIn("within 200ms", self.state("b3")["reason"])
            self.wait_for_state("b3", "up")
        print(f"{self.id()}: silent to out of the tables in {took * 1000:.0f} ms, with two checks 400 ms apart",
              flush=True)

    def state_in_tables(self, name: str) -> str:
        return next(one.state for one in self.appliance.snapshot().backends.values() if one.name == name)


class ClockStep(BalancedTestbed):
    """sluiced when the host's clock is set: libfaketime sets the one that it sees."""

    engines = ("xdp",)  # nothing of it is the engine's
    backend_count = 3

    def set_clock(self, offset: str) -> None:
        self.clock.write_text(f"{offset}\n", encoding="utf-8")

    def setUp(self) -> None:
        self.clock = self.appliance.directory / "clock"
        self.set_clock("+0")
        self.restart_sluiced()

    def restart_sluiced(self) -> None:
        library = next(pathlib.Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1"))
        self.appliance.stop_sluiced()
        self.appliance.start_sluiced(["env", f"LD_PRELOAD={library}", f"FAKETIME_TIMESTAMP_FILE={self.clock}",
                                      "FAKETIME_NO_CACHE=1", "DONT_FAKE_MONOTONIC=1", "NO_FAKE_STAT=1"])

    def test_a_clock_that_is_set_ends_no_grace_and_no_deadline(self) -> None:
        """A removed backend keeps its connections, a drain its deadline, and checks go on, by hours set forward
        and back."""
        members = members_of(self.testbed.backends())
        with self.config_restored(), Load(self.testbed, "hold", _HELD, options=_HOLD_OPTIONS) as load:
            self.assertEqual(load.wait_until_held(), _HELD)
            self.appliance.must("drain", f"{POOL}/b2", "--deadline", "1h")
            self.appliance.reload(members[:2])
            for offset, words in (("+10h", "set forward by 10h"), ("-30h", "set back by")):
                self.set_clock(offset)
                self.wait_until(lambda: words in self.appliance.must("status"), f"status says {words}")
                self.assert_nothing_is_over()
                self.restart_sluiced()
                self.assert_nothing_is_over()
            self.set_clock("+0")
            self.wait_until(lambda: "set forward by" in self.appliance.must("status"), "the clock is right again")
            self.assert_nothing_is_over()
            load.stop()
            self.assertEqual(load.failures, [])
            self.appliance.must("undrain", f"{POOL}/b2")

    def assert_nothing_is_over(self) -> None:
        """Once what is removed has been reviewed: every ten seconds."""
        time.sleep(11)
        states = self.appliance.backends()
        self.assertEqual(states["b3"]["state"], "removed")
        self.assertEqual(states["b2"]["state"], "draining")
        self.assertGreater(states["b2"]["drain_ends_s"], 3400)
        self.assertLess(states["b1"]["check_age_ms"], 5000)
