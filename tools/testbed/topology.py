"""Names and addresses of the testbed: pure functions of a prefix and a backend's number.

    client  eth0 10.77.0.1   fd77::1 ----+
    balancer lb0 (no address: DPDK's) ---+-- bridge in the namespace `fabric`
    b1      eth0 10.77.0.11  fd77::11 ---+      (all of one Ethernet segment)
    b2      eth0 10.77.0.12  fd77::12 ---+

The balancer's own addresses live on the tap interface that sluice-dataplane makes for its port. VIPs
are of the documentation ranges (RFC 5737, RFC 3849) and are routed to the balancer by the client.
"""

import dataclasses
import re

from testbed.errors import TestbedError

VIP_IPV4 = "198.51.100.10"
VIP_IPV6 = "2001:db8::10"

CLIENT_IPV4 = "10.77.0.1"
CLIENT_IPV6 = "fd77::1"
BALANCER_IPV4 = "10.77.0.2"
BALANCER_IPV6 = "fd77::2"
IPV4_PREFIX_LENGTH = 24
IPV6_PREFIX_LENGTH = 64

# Client's side: what the Internet has. Fabric: room for an outer IPv6 header on top (1500 + 40), and
# at most 1,777: a net_af_xdp device with buffers of 2 KB loses larger packets.
CLIENT_MTU = 1500
FABRIC_MTU = 1600
MAX_FABRIC_MTU = 1777

HTTP_PORT = 80
HTTP_LEAST_CONNECTION_PORT = 8080
UDP_ECHO_PORT = 5300
TCP_DIGEST_PORT = 5301

MAX_BACKENDS = 200
MAX_QUEUES = 8

_PREFIX_PATTERN = re.compile(r"[a-z][a-z0-9]{0,9}")


@dataclasses.dataclass(frozen=True)
class Backend:
    """One backend by its number (from 1): its name and its own addresses."""

    number: int

    @property
    def name(self) -> str:
        return f"b{self.number}"

    @property
    def ipv4(self) -> str:
        return f"10.77.0.{10 + self.number}"

    @property
    def ipv6(self) -> str:
        return f"fd77::{10 + self.number}"


def backend_of_number(number: int) -> Backend:
    """The backend with this number; TestbedError if the address plan has no room for it."""
    if not 1 <= number <= MAX_BACKENDS:
        raise TestbedError(f'backend number "{number}" is out of range; allowed: 1 to {MAX_BACKENDS}')
    return Backend(number)


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


def mac_of(host: int) -> str:
    """A locally administered MAC address that tells the host: 1 client, 2 balancer, 10 + N backend N."""
    return f"02:77:00:00:00:{host:02x}"
