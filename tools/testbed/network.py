"""Namespaces, the bridge between them, veth pairs, addresses and routes."""

import contextlib
import os
import signal

from testbed import topology
from testbed.bpf import Programs
from testbed.commands import enter, inside, run
from testbed.processes import record_of, wait_until

# The interface that sluice-dataplane takes in the balancer's namespace, and everyone else's.
BALANCER_INTERFACE = "lb0"
HOST_INTERFACE = "eth0"
# The fabric's end of the balancer's wire.
BALANCER_FABRIC_PORT = "balancer"
_BRIDGE = "br0"


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

    def build(self, queues: int, programs: Programs, fabric_mtu: int) -> None:
        """Makes the fabric, the client and the balancer's port with `queues` queues."""
        _add_namespace(self.fabric)
        _sysctl(self.fabric, {"net/ipv6/conf/default/disable_ipv6": "1"})
        _ip(self.fabric, [f"link add {_BRIDGE} type bridge stp_state 0 mcast_snooping 0 forward_delay 0",
                          f"link set {_BRIDGE} mtu {fabric_mtu} up"])
        self._build_balancer(queues, programs, fabric_mtu)
        self._build_client(fabric_mtu)

    def _build_balancer(self, queues: int, programs: Programs, fabric_mtu: int) -> None:
        _add_namespace(self.balancer)
        # The kernel has the VIPs as an appliance would (for ping), but no address on DPDK's interface.
        _ip(self.balancer, ["link set lo up",
                            f"addr add {topology.VIP_IPV4}/32 dev lo",
                            f"addr add {topology.VIP_IPV6}/128 dev lo nodad"])
        _sysctl(self.balancer, {"net/ipv6/conf/default/disable_ipv6": "1"})
        self._attach(self.balancer, BALANCER_INTERFACE, BALANCER_FABRIC_PORT, topology.mac_of(2),
                     (fabric_mtu, fabric_mtu), queues)
        # Interfaces of later (the port's tap) speak IPv6.
        _sysctl(self.balancer, {"net/ipv6/conf/default/disable_ipv6": "0",
                                "net/ipv6/conf/default/accept_dad": "0",
                                "net/ipv6/conf/default/accept_ra": "0"})
        # With net_af_packet the kernel would see a copy of every packet, and answer for the VIPs.
        run(enter(self.balancer, ["tc", "qdisc", "add", "dev", BALANCER_INTERFACE, "clsact"]))
        run(enter(self.balancer, ["tc", "filter", "add", "dev", BALANCER_INTERFACE, "ingress", "bpf", "da",
                                  "obj", str(programs.silence), "sec", "tc"]))

    def _build_client(self, fabric_mtu: int) -> None:
        _add_namespace(self.client)
        _sysctl(self.client, {"net/ipv4/ip_local_port_range": "2048 65000", "net/ipv4/tcp_tw_reuse": "1"})
        self._attach(self.client, HOST_INTERFACE, "client", topology.mac_of(1), (topology.CLIENT_MTU, fabric_mtu), 1)
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
        self._attach(netns, HOST_INTERFACE, backend.name, topology.mac_of(10 + backend.number),
                     (fabric_mtu, fabric_mtu), 1)
        # Replies go to the client directly, over a path that has the client's MTU.
        mtu = f"mtu {topology.CLIENT_MTU}"
        _ip(netns, [
            "link set lo up",
            f"addr add {topology.VIP_IPV4}/32 dev lo",
            f"addr add {topology.VIP_IPV6}/128 dev lo nodad",
            f"addr add {backend.ipv4}/{topology.IPV4_PREFIX_LENGTH} dev {HOST_INTERFACE}",
            f"addr add {backend.ipv6}/{topology.IPV6_PREFIX_LENGTH} dev {HOST_INTERFACE} nodad",
            f"route add {topology.CLIENT_IPV4}/32 dev {HOST_INTERFACE} {mtu}",
            f"route add {topology.CLIENT_IPV6}/128 dev {HOST_INTERFACE} {mtu}"])
        run(["ip", "-n", netns, "link", "set", HOST_INTERFACE, "xdpdrv", "obj",
             str(programs.decap), "sec", "xdp"])

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
                queues: int) -> None:
        """A veth pair from the namespace to the bridge (`mtus`: at either end), without the offloads that
        break checksums."""
        queue_counts = f"numtxqueues {queues} numrxqueues {queues}"
        _ip(netns, [f"link add {interface} address {mac} mtu {mtus[0]} {queue_counts} type veth "
                    f"peer name {fabric_port} mtu {mtus[1]} {queue_counts} netns {self.fabric}"])
        _ip(self.fabric, [f"link set {fabric_port} master {_BRIDGE} up"])
        # A frame that XDP reads needs its checksum filled in; frames that XDP sends need the peer's NAPI.
        run(enter(netns, ["ethtool", "-K", interface, "tx", "off"]))
        # A VLAN tag that travels beside the frame is one that XDP does not see.
        run(enter(self.fabric, ["ethtool", "-K", fabric_port, "tx", "off", "gro", "on", "tx-vlan-hw-insert", "off",
                                "tx-vlan-stag-hw-insert", "off"]))
        _ip(netns, [f"link set {interface} up"])


def _add_namespace(netns: str) -> None:
    run(["ip", "netns", "add", netns])


def _ip(netns: str, lines: list[str]) -> None:
    run(["ip", "-n", netns, "-batch", "-"], stdin="\n".join(lines) + "\n")


def _sysctl(netns: str, settings: dict[str, str]) -> None:
    with inside(netns):
        for name, value in settings.items():
            with open(f"/proc/sys/{name}", "w", encoding="ascii") as file:
                file.write(value)


def _pids_inside(netns: str) -> list[int]:
    return [int(pid) for pid in run(["ip", "netns", "pids", netns]).split()]
