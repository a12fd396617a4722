"""sluiced's configuration for the testbed: every service on one pool of the backends."""

import dataclasses
from collections.abc import Sequence

from testbed import topology

POOL = "web"
SERVICE_MAGLEV = "web"
SERVICE_LEAST_CONNECTION = "web-lc"
SERVICE_UDP = "echo"
SERVICE_DIGEST = "digest"
SERVICE_IPERF = "iperf"
SERVICE_IPERF_CONTROL = "iperf-control"  # of its UDP streams
SERVICE_IPERF_UDP = "iperf-udp"

_SERVICE = """\
  - name: {name}
    vips: [{ipv4}, "{ipv6}"]
    protocol: {protocol}
    ports: [{port}]
    pool: {pool}
    scheduler: {scheduler}
"""
_SERVICES = (
    (SERVICE_MAGLEV, "tcp", topology.HTTP_PORT, "maglev"),
    (SERVICE_LEAST_CONNECTION, "tcp", topology.HTTP_LEAST_CONNECTION_PORT, "least-connection"),
    (SERVICE_UDP, "udp", topology.UDP_ECHO_PORT, "maglev"),
    (SERVICE_DIGEST, "tcp", topology.TCP_DIGEST_PORT, "maglev"),
    (SERVICE_IPERF, "tcp", topology.IPERF_PORT, "maglev"),
    (SERVICE_IPERF_CONTROL, "tcp", topology.IPERF_UDP_PORT, "maglev"),
    (SERVICE_IPERF_UDP, "udp", topology.IPERF_UDP_PORT, "maglev"),
)


@dataclasses.dataclass(frozen=True)
class Member:
    """A backend as the pool has it."""

    backend: topology.Backend
    weight: int = 100
    drain: bool = False

    @property
    def address(self) -> str:
        """Odd backends are reached over IPv4, even ones over IPv6: with VIPs of both families, all four
        pairings of inner and outer header are in use."""
        return self.backend.ipv4 if self.backend.number % 2 else self.backend.ipv6


def members_of(backends: Sequence[topology.Backend]) -> list[Member]:
    return [Member(backend) for backend in backends]


@dataclasses.dataclass(frozen=True)
class Extras:
    """What a test wants in the configuration besides the usual; each a line of YAML without its indent."""

    pace: str = "interval: 1s, timeout: 1s, rise: 1, fall: 2"  # of the health checks
    of_pool: tuple[str, ...] = ()
    of_service: tuple[str, ...] = ()  # of SERVICE_MAGLEV
    pools: tuple[str, ...] = ()  # further ones, each on one line


def configuration(members: Sequence[Member], extras: Extras = Extras()) -> str:
    """The YAML text. A backend that refuses is out after two checks, within two seconds; one that is only
    slow, on a machine that has other work, has a second for its answer."""
    services = "".join(
        _SERVICE.format(name=name, ipv4=topology.VIP_IPV4, ipv6=topology.VIP_IPV6, protocol=protocol, port=port,
                        pool=POOL, scheduler=scheduler)
        + "".join(f"    {line}\n" for line in extras.of_service if name == SERVICE_MAGLEV)
        for name, protocol, port, scheduler in _SERVICES)
    backends = "".join(
        f'      - {{name: {member.backend.name}, address: "{member.address}", weight: {member.weight}'
        f'{", drain: true" if member.drain else ""}}}\n'
        for member in members)
    return (f"version: 1\nservices:\n{services}pools:\n  - name: {POOL}\n    forwarding: ipip\n"
            + "".join(f"    {line}\n" for line in extras.of_pool)
            + f"    backends:\n{backends or '      []'}\n"
            f"    health: {{type: http, port: {topology.HTTP_PORT}, path: /healthz, {extras.pace}}}\n"
            + "".join(f"  - {line}\n" for line in extras.pools))
