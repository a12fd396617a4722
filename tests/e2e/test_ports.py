"""The same traffic through other ports: several devices and workers, net_af_packet, huge pages."""

from harness import VIP_URLS, BalancedTestbed
from testbed.appliance import DataplaneOptions
from testbed.load import Load


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

    def test_connections_survive_another_number_of_workers(self) -> None:
        with Load(self.testbed, "hold", 100, options=["--interval", "0.2"]) as held:
            self.assertEqual(held.wait_until_held(), 100)
            self.appliance.stop_dataplane()
            self.appliance.start_dataplane(DataplaneOptions(workers=1))
            with Load(self.testbed, "requests", 200) as load:
                load.finish()
            self.appliance.stop_dataplane()
            self.appliance.start_dataplane(self.options)
            with Load(self.testbed, "requests", 200) as more:
                more.finish()
            held.stop()
        self.assertEqual(load.failures + more.failures, [])
        self.assertEqual(held.failures, [])


class AfPacket(PortTests, BalancedTestbed):
    options = DataplaneOptions(device="af_packet")


class HugePages(PortTests, BalancedTestbed):
    options = DataplaneOptions(huge_pages="on")
    huge_pages = 256  # of 2 MB
