"""sluicectl against a live system: what it says, and its exit status."""

import json

from harness import BalancedTestbed
from testbed import topology
from testbed.configuration import POOL, SERVICE_LEAST_CONNECTION, SERVICE_MAGLEV
from testbed.load import Load

# tools/sluicectl/exit_codes.h
_USAGE = 2
_NOT_FOUND = 3
_UNREACHABLE = 4


class Sluicectl(BalancedTestbed):
    def test_tables_for_people(self) -> None:
        for command in ("status", "services", "backends", "connections", "counters"):
            with self.subTest(command):
                self.assertNotEqual(self.appliance.must(command).strip(), "")
        self.assertIn("b3", self.appliance.must("backends"))
        self.assertIn(SERVICE_LEAST_CONNECTION, self.appliance.must("services"))

    def test_json_for_programs(self) -> None:
        for command in ("status", "services", "backends", "connections", "counters"):
            with self.subTest(command):
                self.assertIsInstance(json.loads(self.appliance.must("-o", "json", command)), dict)

    def test_status_names_engine_revision_and_backends(self) -> None:
        status = self.appliance.query("status")
        self.assertTrue(status["dataplane"]["connected"])
        self.assertEqual(status["dataplane"]["engine"], self.options.engine)
        self.assertEqual(status["dataplane"]["snapshot"], self.appliance.snapshot().revision)
        self.assertEqual(status["backends"]["up"], self.backend_count)

    def test_connections_lists_the_held_ones(self) -> None:
        with Load(self.testbed, "hold", 20, options=["--interval", "0.5"]) as load:
            self.assertEqual(load.wait_until_held(), 20)
            listed = self.appliance.query("connections", "--service", SERVICE_MAGLEV)["connections"]
            load.stop()
        established = [one for one in listed if one["state"] == "established"]
        self.assertGreaterEqual(len(established), 20)
        self.assertLessEqual({one["vip"] for one in established}, {topology.VIP_IPV4, topology.VIP_IPV6})

    def test_counters_are_those_of_the_dataplane(self) -> None:
        with Load(self.testbed, "requests", 100) as load:
            load.finish()
        shown = {one["name"]: one["packets"] for one in self.appliance.query("counters")["verdicts"]}
        self.assertEqual(list(shown), list(self.appliance.counters().verdicts))
        self.assertGreaterEqual(shown["forward_new"], 100)
        self.assertLessEqual(shown["forward_new"], self.appliance.counters().verdicts["forward_new"])

    def test_drain_and_undrain(self) -> None:
        self.appliance.must("drain", f"{POOL}/b4")
        self.appliance.wait_for_states({"b4": "draining"})
        self.assertIn(self.appliance.backends()["b4"]["state"], ("draining", "drained"))
        with Load(self.testbed, "requests", 300) as load:
            result = load.finish()
        self.assertEqual(load.failures, [])
        self.assertNotIn("b4", result.by_backend())
        self.appliance.must("undrain", f"{POOL}/b4")
        self.appliance.wait_for_states({"b4": "up"})

    def test_drain_of_an_unknown_backend_fails_and_names_it(self) -> None:
        result = self.appliance.sluicectl("drain", f"{POOL}/b99")
        self.assertEqual(result.status, _NOT_FOUND)
        self.assertIn("b99", result.errors)

    def test_unknown_command_is_a_usage_error(self) -> None:
        self.assertEqual(self.appliance.sluicectl("dance").status, _USAGE)
        self.assertEqual(self.appliance.sluicectl("drain", "no-pool").status, _USAGE)

    def test_sluiced_out_of_reach(self) -> None:
        self.appliance.stop_sluiced()
        try:
            result = self.appliance.sluicectl("status")
            self.assertEqual(result.status, _UNREACHABLE)
            self.assertIn(str(self.appliance.api_socket), result.errors)
        finally:
            self.appliance.start_sluiced()
