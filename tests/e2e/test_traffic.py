"""Real traffic through each engine: every service, both families."""

import socket

from harness import FAMILIES, VIP_URLS, BalancedTestbed
from testbed import topology
from testbed.commands import socket_in
from testbed.load import Load, http_targets

_UDP_FLOWS = 40
_HELD = 400


class Traffic(BalancedTestbed):
    def names(self) -> set[str]:
        return {backend.name for backend in self.testbed.backends()}

    def test_http_over_both_families_reaches_every_backend(self) -> None:
        with Load(self.testbed, "requests", 800) as load:
            result = load.finish()
        self.assertEqual(load.failures, [])
        self.assertEqual(result.done, 800)
        for target, counts in result.by_target.items():
            self.assertEqual(set(counts), self.names(), target)
        self.assert_no_checksum_errors()

    def test_maglev_spreads_connections_evenly(self) -> None:
        with Load(self.testbed, "requests", 4000, options=["--concurrency", "64"]) as load:
            counts = load.finish().by_backend()
        mean = 4000 / len(self.names())
        # Four standard deviations of a fair draw, and 2% of the table's own unevenness.
        allowed = 4 * (mean * 0.75) ** 0.5 + 0.02 * mean
        for name, count in counts.items():
            self.assertLess(abs(count - mean), allowed, name)

    def test_curl_keeps_a_connection_on_its_backend(self) -> None:
        for url in VIP_URLS:
            answers = self.in_client("curl", "--silent", "--show-error", "--globoff", "--max-time", "20",
                                     *[f"{url}/"] * 20).split()
            self.assertEqual(len(answers), 20)
            self.assertEqual(len(set(answers)), 1, url)

    def test_least_connection_evens_out_held_connections(self) -> None:
        targets = http_targets(topology.HTTP_LEAST_CONNECTION_PORT)
        options = ["--interval", "1", "--concurrency", "8"]
        with Load(self.testbed, "hold", _HELD, targets=targets, options=options) as load:
            self.assertEqual(load.wait_until_held(), _HELD)
            result = load.stop()
        self.assertEqual(load.failures, [])
        counts = result.by_backend()
        self.assertEqual(set(counts), self.names())
        self.assertLessEqual(max(counts.values()), 1.15 * _HELD / len(counts), counts)

    def test_upload_of_full_packets_arrives_whole(self) -> None:
        for family, vip in FAMILIES:
            self.assert_upload_arrives(family, vip)
        self.assert_no_checksum_errors()

    def test_download_of_100_mb_arrives_whole(self) -> None:
        for url in VIP_URLS:
            self.assert_big_file_arrives(url)
        self.assert_no_checksum_errors()

    def test_udp_flow_stays_on_its_backend_and_flows_spread(self) -> None:
        for family, vip in FAMILIES:
            backends = set()
            for _ in range(_UDP_FLOWS):
                with socket_in(self.testbed.network.client, family, socket.SOCK_DGRAM) as flow:
                    flow.settimeout(10)
                    flow.connect((vip, topology.UDP_ECHO_PORT))
                    answers = set()
                    for payload in (b"one", b"two", bytes(1400)):
                        flow.send(payload)
                        name, _, echoed = flow.recv(2048).partition(b" ")
                        self.assertEqual(echoed, payload)
                        answers.add(name.decode())
                self.assertEqual(len(answers), 1)
                backends |= answers
            self.assertEqual(backends, self.names(), vip)
        self.assert_no_checksum_errors()

    def test_backend_that_fails_leaves_and_comes_back(self) -> None:
        backend = self.testbed.backends()[1]
        servers = self.testbed.servers(backend)
        servers.kill_nginx()
        try:
            self.appliance.wait_for_states({backend.name: "down"})
            with Load(self.testbed, "requests", 600) as load:
                result = load.finish()
            self.assertEqual(load.failures, [])
            self.assertNotIn(backend.name, result.by_backend())
        finally:
            servers.start_nginx()
        self.appliance.wait_for_states({backend.name: "up"})
        with Load(self.testbed, "requests", 600) as load:
            result = load.finish()
        self.assertEqual(load.failures, [])
        self.assertIn(backend.name, result.by_backend())
