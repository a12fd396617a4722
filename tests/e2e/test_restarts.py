"""Killed, stopped and started daemons: packets go on, and nothing changes."""

from harness import SPARING, BalancedTestbed
from testbed.load import Load

_INVALID_CONFIG = 5  # tools/sluicectl/exit_codes.h
_HELD = 150
_HOLD_OPTIONS = ["--interval", "0.2", "--concurrency", "16"]


class Restarts(BalancedTestbed):
    def assert_same_snapshot(self, before: object) -> None:
        self.assertEqual(self.appliance.snapshot(), before)

    def drops(self) -> dict[str, int]:
        verdicts = self.appliance.counters().verdicts
        return {name: count for name, count in verdicts.items() if name.startswith("drop_")}

    def checked_anew(self) -> bool:
        """Whether sluiced is connected and has checked every backend since it started."""
        if not self.appliance.query("status")["dataplane"]["connected"]:
            return False
        return all(one["health"] == "up" for one in self.appliance.backends().values())

    def test_killing_sluiced_loses_no_packet_and_starting_it_changes_nothing(self) -> None:
        """TCP repairs what is lost: each frame has to be accounted for, on its way in and out."""
        before = self.appliance.snapshot()
        drops = self.drops()
        offset = self.settled_offset()
        repairs = self.client_repairs()
        with Load(self.testbed, "hold", _HELD, options=_HOLD_OPTIONS) as held, \
                Load(self.testbed, "requests", 0, options=SPARING) as load:
            self.assertEqual(held.wait_until_held(), _HELD)
            load.wait_until_done(300)
            self.appliance.kill_sluiced()
            killed_at = load.done
            load.wait_until_done(killed_at + 1000)
            self.assert_same_snapshot(before)
            self.appliance.start_sluiced()
            self.wait_until(self.checked_anew, "sluiced has checked every backend")
            load.wait_until_done(load.done + 500)
            result = load.stop()
            held.stop()
        self.assertEqual(load.failures, [])
        self.assertEqual(held.failures, [])
        self.assertGreaterEqual(result.done, killed_at + 1500)
        self.wait_until_accounted(offset)
        self.assertLessEqual(self.client_repairs(), repairs)
        self.assert_same_snapshot(before)
        self.assertEqual(self.drops(), drops)

    def test_drain_survives_a_restart_of_sluiced(self) -> None:
        self.appliance.must("drain", "web/b2")
        self.appliance.wait_for_states({"b2": "draining"})
        before = self.appliance.snapshot()
        self.appliance.kill_sluiced()
        self.appliance.start_sluiced()
        self.wait_until(lambda: self.appliance.query("status")["dataplane"]["connected"], "sluiced is connected")
        self.assertIn(self.appliance.backends()["b2"]["state"], ("draining", "drained"))
        self.assert_same_snapshot(before)
        self.appliance.must("undrain", "web/b2")
        self.appliance.wait_for_states({"b2": "up"})

    def test_bad_configuration_is_refused_and_nothing_changes(self) -> None:
        before = self.appliance.snapshot()
        good = self.appliance.config_path.read_text(encoding="utf-8")
        bad = good.replace("scheduler: maglev", "scheduler: dice", 1).replace("port: 80,", "port: 80000,")
        self.appliance.config_path.write_text(bad, encoding="utf-8")
        try:
            result = self.appliance.sluicectl("reload")
            self.assertEqual(result.status, _INVALID_CONFIG)
            said = result.errors + result.output
            self.assertIn("dice", said)
            self.assertIn("80000", said)
            self.assertIn(f"{self.appliance.config_path}:", said)
            self.assert_same_snapshot(before)
            self.assertNotEqual(self.appliance.query("status")["config"]["problem"], "")
            check = self.appliance.sluicectl("check-config", str(self.appliance.config_path))
            self.assertEqual(check.status, _INVALID_CONFIG)
        finally:
            self.appliance.config_path.write_text(good, encoding="utf-8")
        self.assertEqual(self.appliance.sluicectl("check-config", str(self.appliance.config_path)).status, 0)
        self.appliance.must("reload")
        self.assertEqual(self.appliance.query("status")["config"]["problem"], "")
        self.assert_same_snapshot(before)

    def connections_survive(self, end: object) -> None:
        """Connections whose slots have moved live through the end and the start of the dataplane."""
        assert callable(end)
        with self.held_against_the_hash(_HELD):
            end()
            self.appliance.start_dataplane(self.options)
            self.assert_requests_are_answered(200)

    def test_stopped_dataplane_keeps_its_connections(self) -> None:
        self.connections_survive(self.appliance.stop_dataplane)

    def test_killed_dataplane_keeps_its_connections(self) -> None:
        self.connections_survive(self.appliance.kill_dataplane)

    def test_dataplane_starts_without_sluiced(self) -> None:
        self.appliance.kill_sluiced()
        before = self.appliance.snapshot()
        self.appliance.stop_dataplane()
        self.appliance.start_dataplane(self.options)
        try:
            self.assert_same_snapshot(before)
            with Load(self.testbed, "requests", 300) as load:
                result = load.finish()
            self.assertEqual(load.failures, [])
            self.assertEqual(set(result.by_backend()), {backend.name for backend in self.testbed.backends()})
        finally:
            self.appliance.start_sluiced()
        self.wait_until(self.checked_anew, "sluiced has checked every backend")
