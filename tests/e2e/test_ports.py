"""The same traffic through other ports: several devices and workers, net_af_packet, huge pages."""

from harness import VIP_URLS, BalancedTestbed
from testbed import topology
from testbed.appliance import DataplaneOptions
from testbed.configuration import members_of
from testbed.load import Load, http_targets

_HELD = 200


class PortTests:
    """What every kind of port must do."""

    def test_requests_over_both_families(self) -> None:
        assert isinstance(self, BalancedTestbed)
        with Load(self.testbed, "requests", 600) as load:
            result = load.finish()
        self.assertEqual(load.failures, [])
        self.assertEqual(set(result.by_backend()), set(self.all_up()))
        self.assert_no_checksum_errors()

    def test_download_arrives_whole(self) -> None:
        assert isinstance(self, BalancedTestbed)
        for url in VIP_URLS:
            self.assert_big_file_arrives(url)

    def test_every_packet_has_one_verdict(self) -> None:
        assert isinstance(self, BalancedTestbed)

        def equal() -> bool:
            counters = self.appliance.counters()
            return counters.sum_of_verdicts() == counters.received_packets > 0

        self.wait_until(equal, "as many verdicts as received packets")


class TwoQueuesTwoWorkers(PortTests, BalancedTestbed):
    queues = 2
    options = DataplaneOptions(workers=2)

    def restart_with(self, options: DataplaneOptions) -> None:
        self.appliance.stop_dataplane()
        self.appliance.start_dataplane(options)
        with Load(self.testbed, "requests", 200) as load:
            load.finish()
        self.assertEqual(load.failures, [])

    def test_connections_survive_another_number_of_workers(self) -> None:
        """Found in the tables of workers that are no more, since their slots have moved meanwhile and
        least-connection has no slots to speak of."""
        members = members_of(self.testbed.backends())
        options = ["--interval", "0.2"]
        targets = http_targets() + http_targets(topology.HTTP_LEAST_CONNECTION_PORT)
        with self.config_restored():
            self.appliance.reload(members[:2])
            self.appliance.wait_for_states({"b1": "up", "b2": "up"})
            with Load(self.testbed, "hold", _HELD, targets=targets, options=options) as held:
                self.assertEqual(held.wait_until_held(), _HELD, held.failures)
                self.appliance.reload(members)
                self.appliance.wait_for_states(self.all_up())
                self.restart_with(DataplaneOptions(workers=1))
                self.wait_until(lambda: self.appliance.counters().verdicts["forward_adopted"] > 0, "adoptions")
                self.restart_with(self.options)
                held.stop()
            self.assertEqual(held.failures, [])


class AfPacket(PortTests, BalancedTestbed):
    options = DataplaneOptions(device="af_packet")


class HugePages(PortTests, BalancedTestbed):
    options = DataplaneOptions(huge_pages="on")
    huge_pages = 256  # of 2 MB
