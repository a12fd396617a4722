"""Namespaces, the bridges between them, veth pairs, addresses and routes."""

import contextlib
import os
import pathlib
import signal

from testbed import topology
from testbed.bpf import Programs
from testbed.commands import enter, inside, run
from testbed.processes import record_of, wait_until

# The client's only interface, and the backends' first.
HOST_INTERFACE = "eth0"
# Of the balancer's checks through the data path: where they are sent, and where sluice-dataplane takes them.
CHECK_INTERFACES = ("check0", "check1")
# The fabric's end of the balancer's first wire.
BALANCER_FABRIC_PORT = "balancer-0"

# While no engine has the interface, as in the moment of a switch, the balancer's kernel would answer for the VIPs
# on its lo: with a reset, since it knows none of the connections. What is for a service is never the kernel's.
# And what the kernel tells the link of its own accord, at any time, would be in the wire's counts.
_GUARD = """\
table inet sluice_guard {{
  chain input {{
    type filter hook input priority filter;
    iifname "lb*" ip daddr {ipv4} tcp dport {{ {tcp} }} drop
    iifname "lb*" ip6 daddr {ipv6} tcp dport {{ {tcp} }} drop
    iifname "lb*" ip daddr {ipv4} udp dport {{ {udp} }} drop
    iifname "lb*" ip6 daddr {ipv6} udp dport {{ {udp} }} drop
  }}
  chain output {{
    type filter hook output priority filter;
    oifname "lb*" icmpv6 type mld2-listener-report drop
  }}
}}
"""


def balancer_interface(segment: int) -> str:
    """What sluice-dataplane takes in the balancer's namespace."""
    return f"lb{segment}"


def backend_interface(segment: int) -> str:
    return f"eth{segment}"


class Network:
    """The namespaces of one prefix. Every interface is made inside a namespace, none in the host's."""

    def __init__(self, prefix: str):
        self._prefix = topology.check_prefix(prefix)
        self.fabric = f"{prefix}-fabric"
        self.client = f"{prefix}-client"
        self.balancer = f"{prefix}-balancer"

    def of_backend(self, backend: topology.Backend) -> str:
        """The name of the backend's namespace."""
        return f"{self._prefix}-{backend.name}"

    def existing(self) -> list[str]:
        """Namespaces of this prefix that are there now."""
        try:
            names = os.listdir("/run/netns")
        except FileNotFoundError:
            return []
        return sorted(name for name in names if name.startswith(self._prefix + "-"))

    def build(self, segments: int, queues: int, programs: Programs, fabric_mtu: int) -> None:
        """Makes the fabric, the client and the balancer's interfaces with `queues` queues."""
        _add_namespace(self.fabric)
        _sysctl(self.fabric, {"net/ipv6/conf/default/disable_ipv6": "1"})
        for segment in range(segments):
            bridge = _bridge(segment)
            _ip(self.fabric, [f"link add {bridge} type bridge stp_state 0 mcast_snooping 0 forward_delay 0",
                              f"link set {bridge} mtu {fabric_mtu} up"])
        self._build_balancer(segments, queues, programs, fabric_mtu)
        self._build_client(fabric_mtu)

    def _build_balancer(self, segments: int, queues: int, programs: Programs, fabric_mtu: int) -> None:
        _add_namespace(self.balancer)
        # The kernel has the VIPs as an appliance would (for ping).
        _ip(self.balancer, ["link set lo up",
                            f"addr add {topology.VIP_IPV4}/32 dev lo",
                            f"addr add {topology.VIP_IPV6}/128 dev lo nodad"])
        _sysctl(self.balancer, {"net/ipv6/conf/default/accept_dad": "0",
                                "net/ipv6/conf/default/accept_ra": "0",
                                "net/ipv6/conf/default/router_solicitations": "0"})
        run(enter(self.balancer, ["nft", "-f", "-"]), stdin=_GUARD.format(
            ipv4=topology.VIP_IPV4, ipv6=topology.VIP_IPV6, tcp=", ".join(map(str, topology.TCP_PORTS)),
            udp=", ".join(map(str, topology.UDP_PORTS))))
        for segment in range(segments):
            self._wire_balancer(segment, queues, programs, fabric_mtu)

    def _wire_balancer(self, segment: int, queues: int, programs: Programs, fabric_mtu: int) -> None:
        interface, fabric_port = balancer_interface(segment), f"balancer-{segment}"
        self._attach(self.balancer, interface, fabric_port, topology.mac_of(2, segment),
                     (fabric_mtu, fabric_mtu), queues, segment)
        _add_xdp(self.fabric, fabric_port, programs.pass_all)
        _tc(self.balancer, ["qdisc", "add", "dev", interface, "clsact"])

    def renew_balancer_wire(self, programs: Programs, fabric_mtu: int) -> None:
        """Another interface of the name of the balancer's first one, in its place."""
        _ip(self.balancer, [f"link delete {balancer_interface(0)}"])
        self._wire_balancer(0, 1, programs, fabric_mtu)

    def add_check_path(self) -> None:
        """The way of the balancer's checks through the data path: what it sends to a VIP from its own addresses goes
        into one end of a pair of interfaces, the other of which is a port of sluice-dataplane's."""
        sends, receives = CHECK_INTERFACES
        _ip(self.balancer, [f"link add {sends} mtu {topology.CHECK_MTU} arp off type veth peer name {receives}"])
        # A frame that is read before a NIC has it needs its checksum filled in, and is one packet.
        run(enter(self.balancer, ["ethtool", "-K", sends, "tx", "off", "tso", "off", "gso", "off"]))
        _sysctl(self.balancer, {f"net/ipv6/conf/{receives}/disable_ipv6": "1"})
        _ip(self.balancer, [f"link set {sends} up", f"link set {receives} up"])
        for family, source, vip in (("-4", topology.BALANCER_IPV4, topology.VIP_IPV4),
                                    ("-6", topology.BALANCER_IPV6, topology.VIP_IPV6)):
            # The kernel has the VIPs itself, and looks for its own addresses first.
            for rule in ("add pref 10 lookup local", "del pref 0", f"add pref 5 from {source} to {vip} lookup 100"):
                run(["ip", "-n", self.balancer, family, "rule", *rule.split()])
            run(["ip", "-n", self.balancer, family, "route", "add", "default", "dev", sends, "table", "100"])

    def silence_balancer(self, programs: Programs) -> None:
        """The kernel gets nothing of what arrives at the first of the balancer's interfaces, until heed_balancer()."""
        _tc(self.balancer, ["filter", "replace", "dev", balancer_interface(0), "ingress", "pref", "1", "handle", "1",
                            "bpf", "da", "obj", str(programs.silence), "sec", "tc"])

    def heed_balancer(self) -> None:
        """The kernel gets what arrives again."""
        _tc(self.balancer, ["filter", "delete", "dev", balancer_interface(0), "ingress"])

    def _build_client(self, fabric_mtu: int) -> None:
        _add_namespace(self.client)
        _sysctl(self.client, {"net/ipv4/ip_local_port_range": "2048 65000", "net/ipv4/tcp_tw_reuse": "1"})
        self._attach(self.client, HOST_INTERFACE, "client", topology.mac_of(1), (topology.CLIENT_MTU, fabric_mtu), 1, 0)
        _ip(self.client, [
            "link set lo up",
            f"addr add {topology.CLIENT_IPV4}/{topology.IPV4_PREFIX_LENGTH} dev {HOST_INTERFACE}",
            f"addr add {topology.CLIENT_IPV6}/{topology.IPV6_PREFIX_LENGTH} dev {HOST_INTERFACE} nodad",
            f"route add {topology.VIP_IPV4}/32 via {topology.BALANCER_IPV4}",
            f"route add {topology.VIP_IPV6}/128 via {topology.BALANCER_IPV6}"])

    def add_backend(self, backend: topology.Backend, programs: Programs, fabric_mtu: int) -> None:
        """A backend's namespace, with the VIPs on its lo and the XDP program that decapsulates."""
        netns = self.of_backend(backend)
        _add_namespace(netns)
        _sysctl(netns, {"net/ipv4/conf/all/rp_filter": "0", "net/ipv4/conf/default/rp_filter": "0",
                        "net/ipv4/conf/all/arp_ignore": "1", "net/ipv4/conf/all/arp_announce": "2",
                        "net/ipv6/conf/default/accept_ra": "0"})
        for segment in range(backend.segments):
            interface = backend_interface(segment)
            self._attach(netns, interface, f"{backend.name}-{segment}", topology.mac_of(backend.host, segment),
                         (fabric_mtu, fabric_mtu), 1, segment)
            _ip(netns, [f"addr add {topology.ipv4_of(backend.host, segment)}/{topology.IPV4_PREFIX_LENGTH} "
                        f"dev {interface}",
                        f"addr add {topology.ipv6_of(backend.host, segment)}/{topology.IPV6_PREFIX_LENGTH} "
                        f"dev {interface} nodad"])
        # Replies go to the client directly, over a path that has the client's MTU.
        mtu = f"mtu {topology.CLIENT_MTU}"
        _ip(netns, [
            "link set lo up",
            f"addr add {topology.VIP_IPV4}/32 dev lo",
            f"addr add {topology.VIP_IPV6}/128 dev lo nodad",
            f"route add {topology.CLIENT_IPV4}/32 dev {HOST_INTERFACE} {mtu}",
            f"route add {topology.CLIENT_IPV6}/128 dev {HOST_INTERFACE} {mtu}"])
        _add_xdp(netns, backend_interface(backend.segments - 1), programs.decap)

    def remove_namespace(self, netns: str) -> None:
        """Ends what still runs in the namespace, and takes it and its interfaces away."""
        for pid in _pids_inside(netns):
            record = record_of(pid)
            if record is not None:
                with contextlib.suppress(ProcessLookupError):  # it may be ending by itself
                    os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not _pids_inside(netns), 10, f"end of the processes in {netns}")
        run(["ip", "netns", "delete", netns])

    def _attach(self, netns: str, interface: str, fabric_port: str, mac: str, mtus: tuple[int, int],
                queues: int, segment: int) -> None:
        """A veth pair from the namespace to the segment's bridge (`mtus`: at either end), without the offloads
        that break checksums."""
        queue_counts = f"numtxqueues {queues} numrxqueues {queues}"
        _ip(netns, [f"link add {interface} address {mac} mtu {mtus[0]} {queue_counts} type veth "
                    f"peer name {fabric_port} mtu {mtus[1]} {queue_counts} netns {self.fabric}"])
        _ip(self.fabric, [f"link set {fabric_port} master {_bridge(segment)} up"])
        # A frame that XDP reads needs its checksum filled in; frames that XDP sends need the peer's NAPI.
        run(enter(netns, ["ethtool", "-K", interface, "tx", "off"]))
        # A VLAN tag that travels beside the frame is one that XDP does not see.
        run(enter(self.fabric, ["ethtool", "-K", fabric_port, "tx", "off", "gro", "on", "tx-vlan-hw-insert", "off",
                                "tx-vlan-stag-hw-insert", "off"]))
        _ip(netns, [f"link set {interface} up"])


def _bridge(segment: int) -> str:
    return f"br{segment}"


def _add_namespace(netns: str) -> None:
    run(["ip", "netns", "add", netns])


def _add_xdp(netns: str, interface: str, program: pathlib.Path) -> None:
    run(["ip", "-n", netns, "link", "set", interface, "xdpdrv", "obj", str(program), "sec", "xdp"])


def _tc(netns: str, arguments: list[str]) -> None:
    """With -n and not under nsenter: tc mounts a bpffs on /sys/fs/bpf, which -n keeps to tc's own mount namespace."""
    run(["tc", "-n", netns, *arguments])


def _ip(netns: str, lines: list[str]) -> None:
    run(["ip", "-n", netns, "-batch", "-"], stdin="\n".join(lines) + "\n")


def _sysctl(netns: str, settings: dict[str, str]) -> None:
    with inside(netns):
        for name, value in settings.items():
            with open(f"/proc/sys/{name}", "w", encoding="ascii") as file:
                file.write(value)


def _pids_inside(netns: str) -> list[int]:
    return [int(pid) for pid in run(["ip", "netns", "pids", netns]).split()]
