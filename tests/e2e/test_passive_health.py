"""Backends whose clients get nowhere are ejected, whatever their checks say, and come back when they are mended."""

import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Sequence

from harness import FAMILIES, BalancedTestbed
from knocking import Knocking
from testbed import topology
from testbed.commands import enter, run, socket_in
from testbed.configuration import configuration, members_of
from testbed.topology import Backend

# A backend that is tried again soon; of the checks, ten failures in a row take it down.
_PASSIVE = "{consecutive: 3, ejection: 1s, probes: 2, max_ejected: 50"
_SLOW_CHECKS = "fall: 10"
_UDP_EVERY_S = 0.02

# What the service's port gets vanishes; its checks come to the backend's own address, and are answered.
_HANG = f"""\
table inet hang {{
  chain input {{
    type filter hook input priority filter;
    ip daddr {topology.VIP_IPV4} tcp dport {topology.HTTP_PORT} tcp flags syn drop
    ip6 daddr {topology.VIP_IPV6} tcp dport {topology.HTTP_PORT} tcp flags syn drop
  }}
}}
"""


class PassiveHealth(BalancedTestbed):
    @contextlib.contextmanager
    def passive(self, more: str = "", check_elsewhere: Sequence[Backend] = ()) -> Iterator[None]:
        """The usual configuration with passive health. The checks of `check_elsewhere` go to the backend's address of
        the other family."""
        text = configuration(members_of(self.testbed.backends())).replace("fall: 2", _SLOW_CHECKS)
        for backend in check_elsewhere:
            addresses = (backend.ipv4, backend.ipv6) if backend.number % 2 else (backend.ipv6, backend.ipv4)
            text = text.replace(f'address: "{addresses[0]}"',
                                f'address: "{addresses[0]}", check: {{address: "{addresses[1]}"}}')
        with self.config_restored():
            self.appliance.config_path.write_text(f"{text}    passive: {_PASSIVE}{more}}}\n", encoding="utf-8")
            self.appliance.must("reload")
            self.wait_for(self.all_up(), "up")
            yield

    @contextlib.contextmanager
    def hanging(self, backends: Sequence[Backend]) -> Iterator[None]:
        for backend in backends:
            run(enter(self.testbed.network.of_backend(backend), ["nft", "-f", "-"]), stdin=_HANG)
        try:
            yield
        finally:
            for backend in backends:
                run(enter(self.testbed.network.of_backend(backend), ["nft", "delete", "table", "inet", "hang"]))

    @contextlib.contextmanager
    def unreachable(self, backends: Sequence[Backend]) -> Iterator[None]:
        """The balancer reaches them by way of the client, whose kernel is a router that says they cannot be reached."""
        client, balancer = self.testbed.network.client, self.testbed.network.balancer
        routes = [(backend.ipv4, topology.CLIENT_IPV4) if backend.number % 2 else (backend.ipv6, topology.CLIENT_IPV6)
                  for backend in backends]
        run(enter(client, ["sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1",
                           "net.ipv4.conf.all.send_redirects=0", "net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0"]))
        try:
            for address, router in routes:
                run(enter(client, ["ip", "route", "add", "unreachable", address]))
                run(enter(balancer, ["ip", "route", "add", address, "via", router]))
            yield
        finally:
            for address, router in routes:
                run(enter(balancer, ["ip", "route", "delete", address, "via", router]))
                run(enter(client, ["ip", "route", "delete", "unreachable", address]))
            run(enter(client, ["sysctl", "-qw", "net.ipv4.ip_forward=0", "net.ipv6.conf.all.forwarding=0",
                               "net.ipv4.icmp_ratelimit=1000", "net.ipv6.icmp.ratelimit=1000"]))

    def knocking(self) -> Knocking:
        return Knocking(self.testbed.network.client, FAMILIES, topology.HTTP_PORT)

    def shown(self, name: str, *fields: str) -> tuple:
        backend = self.appliance.backends()[name]
        return tuple(backend[field] for field in fields)

    def states(self) -> dict[str, str]:
        return {name: backend["state"] for name, backend in self.appliance.backends().items()}

    def wait_for(self, names: Sequence[str] | dict[str, str], state: str) -> float:
        """Until these are in that state; how long it took."""
        began = time.monotonic()
        self.wait_until(lambda: all(self.states()[name] == state for name in names), f"{list(names)} are {state}")
        return time.monotonic() - began

    @contextlib.contextmanager
    def logged(self) -> Iterator[Callable[[], str]]:
        """What sluiced has logged since the beginning of the `with`."""
        before = len(self.appliance.sluiced_log.read_text(encoding="utf-8"))
        yield lambda: self.appliance.sluiced_log.read_text(encoding="utf-8")[before:]

    def test_a_service_that_hangs_is_ejected_and_comes_back_when_it_is_mended(self) -> None:
        sick = self.testbed.backends()[:2]  # reached over IPv4 and over IPv6
        names = [backend.name for backend in sick]
        with self.passive(), self.knocking(), self.logged() as log:
            with self.hanging(sick):
                for name in names:
                    # Out of the table, though its checks are well.
                    self.wait_until(lambda name=name: self.shown(name, "state", "slots", "health") == ("ejected", 0, "up"),
                                    f"{name} is ejected")
                for name in names:
                    self.assertRegex(log(), rf"web/{name} is ejected: .* (made no progress|without progress); "
                                            r"tried again in 1 s \(1st time\)")
                    opens, progresses = self.shown(name, "tcp_opens", "tcp_progresses")
                    self.assertGreater(opens, progresses)
                # Tried again while it still hangs: ejected for longer.
                self.wait_until(lambda: "tried again in 2 s (2nd time)" in log(), "an ejection for the second time")
            self.wait_for(names, "up")
        for name in names:
            self.assertIn(f"web/{name} is tried again with few connections: its time is over", log())
            self.assertIn(f"web/{name} is back: 2 connections made progress without a failure", log())

    def test_a_killed_service_is_ejected_before_its_checks_take_it_down(self) -> None:
        backend = self.testbed.backends()[2]
        servers = self.testbed.servers(backend)
        with self.passive(), self.knocking():
            servers.kill_nginx()
            try:
                took_s = self.wait_for([backend.name], "ejected")
                self.assertIn("connections in a row made no progress",
                              self.appliance.backends()[backend.name]["reason"])
                self.assertNotEqual(self.appliance.backends()[backend.name]["health"], "down")
                print(f"a killed service was ejected after {took_s:.1f} s, by checks it would be after 10 s; ", end="")
            finally:
                servers.start_nginx()
            self.wait_for([backend.name], "up")

    def test_when_all_hang_none_is_the_outlier(self) -> None:
        with self.passive(), self.knocking(), self.logged() as log:
            with self.hanging(self.testbed.backends()):
                def all_judged() -> bool:
                    shown = self.appliance.backends().values()
                    self.assertNotIn("ejected", [one["state"] for one in shown])
                    spared = [one for one in shown if "not ejected: all 4 backends that have traffic fail" in one["reason"]]
                    return len(spared) == 4

                self.wait_until(all_judged, "all four fail, and none is ejected")
                self.wait_until(lambda: "backends that have traffic fail, so none is ejected" in log(), "it is told")
            self.assertNotIn("is ejected: ", log())
            self.wait_for(self.all_up(), "up")

    def test_what_a_router_says_ejects_where_udp_says_nothing(self) -> None:
        lost = self.testbed.backends()[1:3]  # reached over IPv6 and over IPv4
        names = [backend.name for backend in lost]
        with self.passive(", signals: [unreachable]", check_elsewhere=lost), self.logged() as log:
            with self.unreachable(lost), contextlib.ExitStack() as flows:
                def ejected() -> bool:
                    for family, vip in FAMILIES:  # each time another client
                        flow = flows.enter_context(socket_in(self.testbed.network.client, family, socket.SOCK_DGRAM))
                        flow.sendto(b"lost", (vip, topology.UDP_ECHO_PORT))
                    time.sleep(_UDP_EVERY_S)
                    return all(f"web/{name} is ejected: " in log() for name in names)

                self.wait_until(ejected, f"{names} are ejected")
                for name in names:
                    self.assertRegex(log(), rf"web/{name} is ejected: \d+ ICMP errors in a row: unreachable; tried again")
                    shown = self.appliance.backends()[name]
                    self.assertEqual(shown["health"], "up")
                    self.assertGreaterEqual(shown["unreachables"], 3)
                self.assertEqual(self.appliance.dataplane_status()["icmp_errors"], "counted")
            with self.knocking():
                self.wait_for(names, "up")
