"""sluicectl doctor on a live system: things that are really broken are found, with what mends them."""

import contextlib
import json
import subprocess
from collections.abc import Iterator

from harness import BalancedTestbed
from testbed import topology
from testbed.appliance import DataplaneOptions
from testbed.commands import enter, run
from testbed.network import CHECK_INTERFACES, balancer_interface

_FAILED = 1  # tools/sluicectl/exit_codes.h


class Doctor(BalancedTestbed):
    backend_count = 2
    options = DataplaneOptions(check_port=True)

    @classmethod
    def prepare_balancer(cls) -> None:
        cls.testbed.network.add_check_path()

    def doctor(self) -> tuple[int, list[dict]]:
        """Its exit status and findings. With the namespace's own /sys, which `ip netns exec` mounts."""
        argv = ["ip", "netns", "exec", self.testbed.network.balancer,
                *self.appliance.sluicectl_argv("-o", "json", "doctor")]
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
        self.assertIn(done.returncode, (0, _FAILED), done.stderr)
        findings = json.loads(done.stdout)["findings"]
        self.assertEqual(done.returncode == _FAILED, any(one["outcome"] == "fail" for one in findings), findings)
        return done.returncode, findings

    def found(self, check: str, subject: str) -> dict:
        return next(one for one in self.doctor()[1] if (one["check"], one["subject"]) == (check, subject))

    def assert_outcome(self, check: str, subject: str, outcome: str, mend: str = "") -> None:
        finding = self.found(check, subject)
        self.assertEqual(finding["outcome"], outcome, finding)
        self.assertIn(mend, finding["mend"])

    def kernel_interface(self) -> str:
        return "sl-front" if self.options.engine == "dpdk" else balancer_interface(0)

    def in_balancer(self, command: str) -> None:
        run(enter(self.testbed.network.balancer, ["sh", "-c", command]))

    @contextlib.contextmanager
    def broken(self, command: str, repair: str) -> Iterator[None]:
        self.in_balancer(command)
        try:
            yield
        finally:
            self.in_balancer(repair)

    def test_what_is_well_passes(self) -> None:
        _, findings = self.doctor()
        outcomes = {(one["check"], one["subject"]): one["outcome"] for one in findings}
        for check in (("sluiced", ""), ("dataplane", ""), ("mtu", "port front"), ("rp-filter", "port front"),
                      ("backends", "web"), ("btf", "")):
            self.assertEqual(outcomes[check], "pass", check)
        if self.options.engine == "xdp":
            self.assertEqual(outcomes["xdp-mode", "port front"], "pass")
        self.assertNotIn(("checks-path", "via: dataplane"), outcomes)
        for one in findings:
            self.assertEqual(one["mend"] == "", one["outcome"] == "pass", one)

    def test_strict_rp_filter_is_found_and_the_command_mends_it(self) -> None:
        path = f"/proc/sys/net/ipv4/conf/{self.kernel_interface()}/rp_filter"
        with self.broken(f"echo 1 > {path}", f"echo 0 > {path}"):
            finding = self.found("rp-filter", "port front")
            self.assertEqual(finding["outcome"], "warn")
            self.in_balancer(finding["mend"])
            self.assert_outcome("rp-filter", "port front", "pass")

    def test_mtu_too_small_for_encapsulation_is_found(self) -> None:
        interface = self.kernel_interface()
        for mtu, outcome in ((1500, "warn"), (1300, "fail")):
            with self.broken(f"ip link set dev {interface} mtu {mtu}", f"ip link set dev {interface} mtu {self.fabric_mtu}"):
                self.assert_outcome("mtu", "port front", outcome, "mtu 1540")
        self.assert_outcome("mtu", "port front", "pass")

    def test_low_memlock_is_found(self) -> None:
        limit = ["prlimit", "--pid", str(self.appliance.dataplane_pid())]
        before = run([*limit, "--memlock", "--output", "SOFT,HARD", "--raw", "--noheadings"]).split()
        run([*limit, f"--memlock=65536:{before[1]}"])
        try:
            self.assert_outcome("memlock", "sluice-dataplane", "fail", "LimitMEMLOCK=infinity")
        finally:
            run([*limit, f"--memlock={before[0]}:{before[1]}"])
        self.assertNotEqual(self.found("memlock", "sluice-dataplane")["outcome"], "fail")

    def test_checks_that_do_not_reach_the_dataplane_are_found(self) -> None:
        original = self.appliance.config_path.read_text(encoding="utf-8")
        through = original.replace("interval: 1s, timeout: 1s",
                                   f'interval: 500ms, timeout: 400ms, source: [{topology.BALANCER_IPV4}, '
                                   f'"{topology.BALANCER_IPV6}"], via: dataplane, vip: {topology.VIP_IPV4}')
        self.assertNotEqual(through, original)
        self.appliance.config_path.write_text(through, encoding="utf-8")
        try:
            self.appliance.must("reload")
            self.wait_until(lambda: self.found("checks-path", "via: dataplane")["outcome"] == "pass", "checks get through")
            sends = CHECK_INTERFACES[0]
            with self.broken(f"ip link set dev {sends} down", f"ip link set dev {sends} up && ip route replace default "
                             f"dev {sends} table 100 && ip -6 route replace default dev {sends} table 100"):
                self.assert_outcome("checks-path", "via: dataplane", "fail", "ip route get")
            self.wait_until(lambda: self.found("checks-path", "via: dataplane")["outcome"] == "pass", "they do again")
        finally:
            self.appliance.config_path.write_text(original, encoding="utf-8")
            self.appliance.must("reload")
            self.appliance.wait_for_states(self.all_up())

    def test_host_alone_without_sluiced(self) -> None:
        self.appliance.stop_sluiced()
        try:
            status, findings = self.doctor()
            self.assertEqual(status, _FAILED)
            outcomes = {one["check"]: one["outcome"] for one in findings}
            self.assertEqual(outcomes["sluiced"], "fail")
            self.assertEqual(outcomes["btf"], "pass")
            self.assertNotIn("backends", outcomes)
        finally:
            self.appliance.start_sluiced()
            self.appliance.wait_for_states(self.all_up())
