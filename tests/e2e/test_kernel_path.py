"""What is not balanced is the kernel's: ARP, neighbour discovery, ping, refusals."""

import json
import socket

from harness import BalancedTestbed
from testbed import topology
from testbed.commands import run, socket_in
from testbed.network import HOST_INTERFACE

_PINGS = 5


class KernelPath(BalancedTestbed):
    def ping(self, address: str) -> None:
        output = self.in_client("ping", "-n", "-c", str(_PINGS), "-i", "0.05", "-W", "5", address)
        self.assertIn(f"{_PINGS} received", output)

    def kernel_packets(self) -> int:
        """Packets that the kernel has got of the engine; under DPDK those that it has sent by it, where each has a
        way of its own to count."""
        counters = self.appliance.counters()
        return counters.kernel_packets if self.options.engine == "dpdk" else counters.verdicts["pass_not_vip"]

    def test_ping_of_the_balancers_own_addresses(self) -> None:
        before = self.kernel_packets()
        self.ping(topology.BALANCER_IPV4)
        self.ping(topology.BALANCER_IPV6)
        self.assertGreaterEqual(self.kernel_packets(), before + 2 * _PINGS)

    def test_ping_of_the_vips_is_answered_by_the_kernel(self) -> None:
        before = self.appliance.counters().verdicts["pass_other_protocol"]
        self.ping(topology.VIP_IPV4)
        self.ping(topology.VIP_IPV6)
        self.assertGreaterEqual(self.appliance.counters().verdicts["pass_other_protocol"], before + 2 * _PINGS)

    def test_arp_and_neighbour_discovery_name_the_ports_mac_address(self) -> None:
        client = self.testbed.network.client
        for address, family in ((topology.BALANCER_IPV4, "-4"), (topology.BALANCER_IPV6, "-6")):
            run(["ip", "-n", client, family, "neigh", "flush", "dev", HOST_INTERFACE])
            self.ping(address)
            neighbours = json.loads(run(["ip", "-n", client, family, "-j", "neigh", "show", address]))
            self.assertEqual([one["lladdr"] for one in neighbours], [topology.mac_of(2)])

    def test_port_without_a_service_is_refused_by_the_kernel(self) -> None:
        for family, address in ((socket.AF_INET, topology.VIP_IPV4), (socket.AF_INET6, topology.VIP_IPV6)):
            with socket_in(self.testbed.network.client, family, socket.SOCK_STREAM) as connection:
                connection.settimeout(10)
                with self.assertRaises(ConnectionRefusedError):
                    connection.connect((address, 9))

    def test_health_checks_go_through_the_ports_interface(self) -> None:
        """sluiced is in the balancer's namespace, whose only way out it is: under DPDK a tap."""
        before = self.kernel_packets()
        self.wait_until(lambda: self.kernel_packets() > before + 20, "packets between the kernel and the wire")
        self.assertEqual({one["health"] for one in self.appliance.backends().values()}, {"up"})
