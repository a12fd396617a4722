"""A running dataplane has few privileges left, and forwards, follows the host and restarts with them."""

import dataclasses
import json
import pathlib

from harness import VIP_URLS, BalancedTestbed
from testbed.commands import enter, run
from testbed.configuration import members_of
from testbed.load import Load
from testbed.network import balancer_interface

_SECCOMP_FILTER = 2  # SECCOMP_MODE_FILTER of linux/seccomp.h
# linux/capability.h
_NET_ADMIN, _PERFMON, _BPF = 12, 38, 39
_KEPT = {"dpdk": {_NET_ADMIN, _BPF}, "xdp": {_NET_ADMIN, _BPF, _PERFMON}}
_HELD = 60


@dataclasses.dataclass(frozen=True)
class Privileges:
    """Of one thread."""

    sets: tuple[frozenset[int], ...]  # inheritable, permitted, effective, bounding, ambient
    no_new_privileges: int
    seccomp: int


def privileges_of(task: pathlib.Path) -> Privileges:
    fields = dict(line.split(":\t", 1) for line in (task / "status").read_text(encoding="utf-8").splitlines()
                  if ":\t" in line)
    sets = (frozenset(bit for bit in range(64) if int(fields[name], 16) >> bit & 1)
            for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))
    return Privileges(tuple(sets), int(fields["NoNewPrivs"]), int(fields["Seccomp"]))


class Confinement(BalancedTestbed):
    def expected(self) -> Privileges:
        kept, none = frozenset(_KEPT[self.options.engine]), frozenset[int]()
        return Privileges((none, kept, kept, none, none), 1, _SECCOMP_FILTER)

    def assert_confined(self) -> None:
        """Every thread, those that DPDK has started among them."""
        tasks = sorted(pathlib.Path(f"/proc/{self.appliance.dataplane_pid()}/task").iterdir())
        self.assertGreater(len(tasks), 1)
        for task in tasks:
            name = (task / "comm").read_text(encoding="utf-8").strip()
            self.assertEqual(privileges_of(task), self.expected(), name)
        self.assertNotIn("not confined", self.appliance.dataplane_log.read_text(encoding="utf-8"))

    def test_every_thread_has_few_capabilities_and_a_filter(self) -> None:
        self.assert_confined()

    def test_snapshots_change(self) -> None:
        with self.held_against_the_hash(_HELD):
            self.assert_requests_are_answered(200)
        self.assert_confined()

    def test_neighbours_are_found_again(self) -> None:
        self.forget_neighbours()
        self.assert_requests_are_answered(200)
        members = members_of(self.testbed.backends())
        with self.config_restored():
            self.appliance.reload(members[:1])
            self.appliance.wait_for_states({"b1": "up"})
            self.forget_neighbours()
            self.appliance.reload(members)
            self.appliance.wait_for_states(self.all_up())
            with Load(self.testbed, "requests", 300) as load:
                result = load.finish()
            self.assertEqual(load.failures, [])
            self.assertEqual(set(result.by_backend()), set(self.all_up()))

    def forget_neighbours(self) -> None:
        """Each once: `ip neigh flush` goes on until none is left, and the dataplane asks for them again at once."""
        ip = ["ip", "-n", self.testbed.network.balancer]
        known = [one for one in json.loads(run([*ip, "-j", "neigh", "show"])) if "lladdr" in one]
        self.assertNotEqual(known, [])
        for one in known:
            run([*ip, "neigh", "del", one["dst"], "dev", one["dev"]])

    def test_link_goes_down_and_up(self) -> None:
        netns, interface = self.testbed.network.balancer, balancer_interface(0)
        keep = f"echo 1 > /proc/sys/net/ipv6/conf/{interface}/keep_addr_on_down"  # IPv6's, as IPv4's
        run(enter(netns, ["sh", "-c", keep]))
        for state in ("down", "up"):
            run(["ip", "-n", netns, "link", "set", interface, state])
        self.wait_until(lambda: all(self.is_served(url) for url in VIP_URLS), "requests are answered again")
        self.appliance.wait_for_states(self.all_up())
        self.assert_requests_are_answered(200)

    def is_served(self, url: str) -> bool:
        return self.in_client("bash", "-c", f"curl --silent --globoff --max-time 2 --output /dev/null '{url}' && "
                                            "echo served || true").strip() == "served"

    def test_restart_keeps_connections(self) -> None:
        with self.held_against_the_hash(_HELD):
            self.appliance.stop_dataplane()
            # DPDK's AF_XDP takes its program along, XDP goes on by its own.
            self.assertEqual(len(self.appliance.xdp_programs()), 0 if self.options.engine == "dpdk" else 1)
            self.assertNotIn("ermission", self.appliance.dataplane_log.read_text(encoding="utf-8"))
            self.appliance.start_dataplane(self.options)
            self.assert_requests_are_answered(200)
        self.assert_confined()


class XdpConfinement(BalancedTestbed):
    """What the XDP engine does later and DPDK does not."""

    engines = ("xdp",)

    def test_interface_that_is_made_anew_is_taken(self) -> None:
        """For which the program is loaded and attached again."""
        before = self.appliance.xdp_programs()
        self.testbed.network.renew_balancer_wire(self.testbed.programs, self.fabric_mtu)
        self.wait_until(lambda: self.appliance.xdp_programs() not in ([], before), "a program on the new interface")
        self.assertEqual(self.appliance.xdp_modes(), ["native"])
        self.appliance.wait_for_states(self.all_up(), timeout_s=60)
        self.assert_requests_are_answered(200)
