"""Names and addresses of the testbed: pure functions of a prefix, a backend's number and a segment's.

    client   eth0 10.77.0.1   fd77::1 ----+
    balancer lb0  10.77.0.2   fd77::2 ----+-- bridge br0 in the namespace `fabric`
    b1       eth0 10.77.0.11  fd77::11 ---+      (all of one Ethernet segment)
    b2       eth0 10.77.0.12  fd77::12 ---+

With two segments, the balancer has lb1 and each backend eth1 on a second bridge as well, at 10.78.0.0/24
and fd78::/64, and that is where the balancer reaches the backends.

The balancer's addresses are put where they belong by sluice-dataplane: on the tap interface of its port
under DPDK, on lb0 itself under XDP. VIPs are of the documentation ranges (RFC 5737, RFC 3849) and are
routed to the balancer by the client.
"""

import dataclasses
import re

from testbed.errors import TestbedError

VIP_IPV4 = "198.51.100.10"
VIP_IPV6 = "2001:db8::10"

IPV4_PREFIX_LENGTH = 24
IPV6_PREFIX_LENGTH = 64
MAX_SEGMENTS = 2


def ipv4_of(host: int, segment: int = 0) -> str:
    """The address of host 1 (client), 2 (balancer) or 10 + N (backend N)."""
    return f"10.{77 + segment}.0.{host}"


def ipv6_of(host: int, segment: int = 0) -> str:
    """As ipv4_of()."""
    return f"fd{77 + segment}::{host}"


CLIENT_IPV4 = ipv4_of(1)
CLIENT_IPV6 = ipv6_of(1)
BALANCER_IPV4 = ipv4_of(2)
BALANCER_IPV6 = ipv6_of(2)

# Client's side: what the Internet has. Fabric: room for an outer IPv6 header on top (1500 + 40), and
# at most 1,777: a net_af_xdp device with buffers of 2 KB loses larger packets.
CLIENT_MTU = 1500
FABRIC_MTU = 1600
MAX_FABRIC_MTU = 1777

CHECK_MTU = 1400

HTTP_PORT = 80
HTTP_LEAST_CONNECTION_PORT = 8080
UDP_ECHO_PORT = 5300
TCP_DIGEST_PORT = 5301
IPERF_PORT = 5201
IPERF_UDP_PORT = 5202  # its control connection is TCP
TCP_PORTS = (HTTP_PORT, HTTP_LEAST_CONNECTION_PORT, TCP_DIGEST_PORT, IPERF_PORT, IPERF_UDP_PORT)  # of services
UDP_PORTS = (UDP_ECHO_PORT, IPERF_UDP_PORT)

MAX_BACKENDS = 200
MAX_QUEUES = 8

_PREFIX_PATTERN = re.compile(r"[a-z][a-z0-9]{0,9}")


@dataclasses.dataclass(frozen=True)
class Backend:
    """One backend by its number (from 1): its name and its own addresses."""

    number: int
    segments: int = 1

    @property
    def name(self) -> str:
        return f"b{self.number}"

    @property
    def host(self) -> int:
        return 10 + self.number

    @property
    def ipv4(self) -> str:
        """Where the balancer reaches it: in the last segment."""
        return ipv4_of(self.host, self.segments - 1)

    @property
    def ipv6(self) -> str:
        """As ipv4."""
        return ipv6_of(self.host, self.segments - 1)


def backend_of_number(number: int, segments: int = 1) -> Backend:
    """The backend with this number; TestbedError if the address plan has no room for it."""
    if not 1 <= number <= MAX_BACKENDS:
        raise TestbedError(f'backend number "{number}" is out of range; allowed: 1 to {MAX_BACKENDS}')
    return Backend(number, segments)


def check_prefix(prefix: str) -> str:
    """Returns `prefix` if it can begin the names of namespaces and directories."""
    if not _PREFIX_PATTERN.fullmatch(prefix):
        raise TestbedError(
            f'--prefix "{prefix}" is not usable; allowed: a lower-case letter, then up to 9 letters or digits')
    return prefix


def check_fabric_mtu(mtu: int) -> None:
    """TestbedError unless the client's packets, or net_af_xdp, get along with it."""
    if not CLIENT_MTU <= mtu <= MAX_FABRIC_MTU:
        raise TestbedError(f'MTU "{mtu}" of the fabric is out of range; allowed: {CLIENT_MTU} to {MAX_FABRIC_MTU}')


def mac_of(host: int, segment: int = 0) -> str:
    """A locally administered MAC address that tells the host, as ipv4_of() counts them."""
    return f"02:77:00:00:{segment:02x}:{host:02x}"
