"""Health checks that go the way of clients' packets: what is wrong with a backend's end of the tunnel, or with its
VIPs, is found."""

import contextlib
import time
from collections.abc import Iterator

import harness
from harness import BalancedTestbed
from health_servers import GRPC, HTTPS
from testbed import processes, topology
from testbed.appliance import DataplaneOptions
from testbed.commands import run
from testbed.configuration import members_of
from testbed.load import Load
from testbed.network import HOST_INTERFACE

_VIPS = (topology.VIP_IPV4, topology.VIP_IPV6)
_PACE = f'interval: 500ms, timeout: 500ms, rise: 1, fall: 2, source: [{topology.BALANCER_IPV4}, "{topology.BALANCER_IPV6}"]'
_HTTP = f"type: http, port: {topology.HTTP_PORT}, path: /healthz"
# By pool: the service's protocol and port, and the check.
_POOLS = {
    "direct": ("tcp", topology.HTTP_LEAST_CONNECTION_PORT, f"{{{_HTTP}, {_PACE}}}"),
    "path4": ("tcp", topology.HTTP_PORT, f"{{{_HTTP}, {_PACE}, via: dataplane, vip: {topology.VIP_IPV4}}}"),
    "path6": ("tcp", topology.TCP_DIGEST_PORT,
              f'{{type: tcp, {_PACE}, via: dataplane, vip: "{topology.VIP_IPV6}"}}'),
    "grpc": ("tcp", GRPC, f"{{type: grpc, {_PACE}, via: dataplane}}"),
    "https": ("tcp", HTTPS, f'{{type: https, tls: {{verify: false}}, {_PACE}, via: dataplane, vip: "{topology.VIP_IPV6}"}}'),
    "datagrams": ("udp", topology.UDP_ECHO_PORT, f"{{type: udp, send: x, {_PACE}, via: dataplane}}"),
}
_THROUGH_DATAPLANE = tuple(pool for pool, (*_, check) in _POOLS.items() if "via: dataplane" in check)


class ChecksThroughTheDataPath(BalancedTestbed):
    backend_count = 3
    options = DataplaneOptions(check_port=True)

    @classmethod
    def prepare_balancer(cls) -> None:
        cls.testbed.network.add_check_path()
        directory = cls.testbed.directory
        certificate, key = directory / "certificate.pem", directory / "key.pem"
        run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-subj",
             "/CN=backend", "-days", "2", "-out", str(certificate), "-keyout", str(key)])
        grpc = harness.build() / "tests/controlplane/health/grpc_health_server"
        for backend in cls.testbed.backends():
            for name, argv in (("grpc", [grpc, "--listen", f"[::]:{GRPC}"]),
                               ("https", ["openssl", "s_server", "-accept", HTTPS, "-cert", certificate, "-key", key,
                                          "-www"])):
                processes.start([str(word) for word in argv], netns=f"{cls.testbed.prefix}-{backend.name}",
                                record_path=directory / f"{name}-{backend.name}.process",
                                log=directory / f"{name}-{backend.name}.log")

    def setUp(self) -> None:
        self.appliance.config_path.write_text(self._configuration(), encoding="utf-8")
        self.appliance.must("reload")
        self.wait_for(dict.fromkeys(_POOLS, "up"))

    def _configuration(self) -> str:
        backends = "".join(f'      - {{name: {one.backend.name}, address: "{one.address}"}}\n'
                           for one in members_of(self.testbed.backends()))
        services = "".join(
            f'  - {{name: {pool}, vips: [{_VIPS[0]}, "{_VIPS[1]}"], protocol: {protocol}, ports: [{port}], pool: {pool}}}\n'
            for pool, (protocol, port, _) in _POOLS.items())
        pools = "".join(f"  - name: {pool}\n    backends:\n{backends}    health: {health}\n"
                        for pool, (_, _, health) in _POOLS.items())
        return f"version: 1\nservices:\n{services}pools:\n{pools}"

    def backend(self, pool: str, name: str) -> dict:
        return next(one for one in self.appliance.query("backends")["backends"]
                    if (one["pool"], one["name"]) == (pool, name))

    def wait_for(self, states: dict[str, str], names: tuple[str, ...] = ("b1", "b2", "b3")) -> None:
        """Until the backends have these states, by pool."""

        def reached() -> bool:
            return all(self.backend(pool, name)["state"] == state for pool, state in states.items() for name in names)

        self.wait_until(reached, f"{names} in the states {states}")

    @contextlib.contextmanager
    def broken(self, name: str, command: str, repair: str) -> Iterator[None]:
        """While `ip` has done something in a backend's namespace."""
        netns = f"{self.testbed.prefix}-{name}"
        run(["ip", "-n", netns, *command.split()])
        try:
            yield
        finally:
            run(["ip", "-n", netns, *repair.split()])

    def without_decapsulation(self, name: str) -> contextlib.AbstractContextManager[None]:
        program = self.testbed.programs.decap
        return self.broken(name, f"link set {HOST_INTERFACE} xdpdrv off",
                           f"link set {HOST_INTERFACE} xdpdrv obj {program} sec xdp")

    def test_missing_decapsulation_is_found(self) -> None:
        for name, others in (("b1", ("b2", "b3")), ("b2", ("b1", "b3"))):
            with self.without_decapsulation(name):
                self.wait_for(dict.fromkeys(_THROUGH_DATAPLANE, "down"), (name,))
                self.wait_for({"direct": "up"}, (name,))
                self.wait_for(dict.fromkeys(_POOLS, "up"), others)
            self.wait_for(dict.fromkeys(_POOLS, "up"))

    def test_missing_vip_is_found(self) -> None:
        with self.broken("b3", f"addr del {_VIPS[0]}/32 dev lo", f"addr add {_VIPS[0]}/32 dev lo"):
            self.wait_for({"path4": "down", "path6": "up", "direct": "up"}, ("b3",))
        with self.broken("b2", f"addr del {_VIPS[1]}/128 dev lo", f"addr add {_VIPS[1]}/128 dev lo nodad"):
            self.wait_for({"path4": "up", "path6": "down", "direct": "up"}, ("b2",))
        self.wait_for(dict.fromkeys(_POOLS, "up"))

    def test_drained_backend_is_still_checked_by_its_own_way(self) -> None:
        self.appliance.must("drain", "path4/b1")
        self.addCleanup(self.appliance.must, "undrain", "path4/b1")
        with self.without_decapsulation("b1"):
            self.wait_until(lambda: "no connection within" in str(self.backend("path4", "b1")), "a failed check")
        self.wait_until(lambda: "HTTP status 200" in str(self.backend("path4", "b1")), "a check that succeeds")

    def test_dataplane_that_is_away_fails_no_backend(self) -> None:
        # In DPDK the host's own port is away with it, and no check gets anywhere.
        resting = (*_POOLS,) if self.options.engine == "dpdk" else _THROUGH_DATAPLANE
        states: set[tuple[str, str]] = set()

        def all_of(pools: tuple[str, ...], what: str) -> bool:
            """Whether it is said of every check of these pools; notes all states meanwhile."""
            backends = self.appliance.query("backends")["backends"]
            states.update((one["pool"], one["state"]) for one in backends if one["pool"] in _POOLS)
            return all(what in str(one["last_check"]) for one in backends if one["pool"] in pools)

        self.appliance.kill_dataplane()
        self.wait_until(lambda: all_of(resting, "not checked: the dataplane"), "checks that rest")
        end = time.monotonic() + 2  # longer than fall x interval
        while time.monotonic() < end:
            self.assertTrue(all_of(resting, "not checked: the dataplane"))
        self.appliance.start_dataplane(self.options)
        self.wait_until(lambda: all_of(("direct", "path4"), "HTTP status 200"), "checks that go on")
        self.assertEqual(states, {(pool, "up") for pool in _POOLS})

    def test_clients_are_served_meanwhile_and_every_packet_is_accounted_for(self) -> None:
        before = self.appliance.counters()
        with Load(self.testbed, "requests", 400) as load:
            result = load.finish()
        self.assertEqual(load.failures, [])
        for target, counts in result.by_target.items():
            self.assertEqual(set(counts), set(self.all_up()), target)
        checked = self.appliance.counters().verdicts["forward_check"]
        self.wait_until(lambda: self.appliance.counters().verdicts["forward_check"] > checked, "more checks")
        self.assertGreater(checked, before.verdicts["forward_check"])

        def equal() -> bool:
            counters = self.appliance.counters()
            return counters.sum_of_verdicts() == counters.received_packets > 0

        self.wait_until(equal, "as many verdicts as received packets")
        for source in (topology.BALANCER_IPV4, topology.BALANCER_IPV6):
            self.assertEqual(self.appliance.query("connections", "--client", source)["matched"], 0, "checks were entered")
        self.assertGreater(self.appliance.query("connections", "--client", topology.CLIENT_IPV4)["matched"], 0)
        self.assert_no_checksum_errors()
