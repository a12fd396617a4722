"""Backends that sluiced learns from files, DNS (unbound) and registrations, and what sluicectl says of it."""

import json
import unittest

from discovery_testbed import Discovery


class DiscoveryFromFiles(Discovery):
    def test_file_is_followed_and_a_bad_one_keeps_the_last_good(self) -> None:
        path = self.place / "web.yaml"
        path.write_text("[{name: b1, address: 10.1.0.11, weight: 50}]", encoding="utf-8")
        self.start_sluiced({"type": "file", "path": str(path), "interval": "1h"},
                           backends=[{"name": "own", "address": "10.1.0.99"}])
        found = self.wait_for("own", "b1")
        self.assertEqual(found["b1"]["source"], f"file {path}")
        self.assertEqual(found["own"]["source"], "configuration")
        self.assertEqual(found["b1"]["weight"], 50)
        self._replace("- {name: b1, address: 10.1.0.11}\n- {name: b2, address: '2001:db8::12'}\n"
                      "- {name: b3, address: 10.1.0.300}\n- {name: vip, address: 198.51.100.10}\n"
                      "- {name: own, address: 10.1.0.98}\n")
        self.wait_for("own", "b1", "b2")
        said = self.wait_for_text("2 backends|4 backends")
        for part in ('line 3: address "10.1.0.300" is no IPv4 or IPv6 address', "vip: 198.51.100.10 is a VIP",
                     "own (10.1.0.98): the configuration has a backend of that name"):
            self.assertIn(part, said)
        self._replace("- {name: b1")
        self.wait_for_text(r"failing +\d+ +.*web.yaml: line 1.*failing for \d+ s; 4 backends of .* UTC are kept; "
                           r"next try in \d+ s")
        self.assertIn("1 sources, 1 of them not in order", self.ctl("status")[1])
        self.assertRegex(self.ctl("status")[1], r"pool web: file .*: failing: .*web.yaml: line 1")
        self.wait_for("own", "b1", "b2")
        self.restart_sluiced()
        self.wait_for("own", "b1", "b2")
        self._replace("[]")
        self.wait_for_text("gave 0 backends, fewer than min_backends, which is 1; 4 backends of")
        self.wait_for("own", "b1", "b2")

    def test_reload_keeps_what_was_found_and_refuses_what_it_has_no_room_for(self) -> None:
        path = self.place / "web.yaml"
        path.write_text("".join(f"- {{address: 10.1.0.{i}}}\n" for i in range(1, 121)), encoding="utf-8")
        source = {"type": "file", "path": str(path)}
        self.start_sluiced(source, slots=251)
        self.wait(lambda: len(self.backends()) == 120, "120 backends")
        path.rename(self.place / "gone")
        self.configure(source, slots=103)
        code, said = self.ctl("reload")
        self.assertEqual(code, 1, said)
        self.assertIn("pool web would have 120 backends and has 103 slots; the configuration of before stays", said)
        self.configure(source, slots=65537)
        code, said = self.ctl("reload")
        self.assertEqual(code, 0, said)
        self.assertEqual(len(self.backends()), 120)

    def _replace(self, text: str) -> None:
        (self.place / "web.new").write_text(text, encoding="utf-8")
        (self.place / "web.new").rename(self.place / "web.yaml")


class DiscoveryFromDns(Discovery):
    def test_addresses_are_followed_through_ttl_death_and_absence_of_the_server(self) -> None:
        unbound = self.start_unbound("web.example. 1 IN A 10.1.0.11", "web.example. 1 IN AAAA 2001:db8::12")
        self.start_sluiced({"type": "dns", "name": "web.example", "servers": ["127.0.0.1"], "interval": "200ms",
                            "timeout": "1s"})
        found = self.wait_for("10.1.0.11", "2001-db8--12")
        self.assertEqual(found["2001-db8--12"]["address"], "2001:db8::12")
        self.assertEqual(found["10.1.0.11"]["source"], "dns web.example (address)")
        self.stop(unbound)
        self.wait_for_text(r"server 127\.0\.0\.1 (cannot be reached|did not answer).*; failing for \d+ s; 2 backends "
                           r"of .* UTC are kept; next try in \d+ s")
        self.assertRegex(self.ctl("status")[1], "pool web: dns web.example .address.: failing: server 127.0.0.1")
        self.wait_for("10.1.0.11", "2001-db8--12")
        self.restart_sluiced()
        self.wait_for("10.1.0.11", "2001-db8--12")
        unbound = self.start_unbound("web.example. 1 IN A 10.1.0.11", "web.example. 1 IN A 10.1.0.13",
                                     "web.example. 1 IN AAAA 2001:db8::12")
        self.wait_for("10.1.0.11", "10.1.0.13", "2001-db8--12")
        self.stop(unbound)
        unbound = self.start_unbound("other.example. 1 IN A 10.1.0.11")  # no such name any more
        self.wait_for_text("gave 0 backends, fewer than min_backends, which is 1; 3 backends of")
        self.stop(unbound)
        unbound = self.start_unbound("web.example. 1 IN TXT nothing")  # the name without an address
        self.wait_for_text("gave 0 backends, fewer than min_backends, which is 1; 3 backends of")
        self.stop(unbound)
        self.start_unbound(more="  local-zone: 'web.example.' always_refuse")
        self.wait_for_text("or answered the question for web.example with REFUSED, SERVFAIL or NOTIMP; failing")
        self.wait_for("10.1.0.11", "10.1.0.13", "2001-db8--12")

    def test_silent_server_is_passed_over_for_the_next(self) -> None:
        self.start_unbound("web.example. 60 IN A 10.1.0.11")
        self.start_sluiced({"type": "dns", "name": "web.example", "record": "a", "servers": ["10.77.9.2", "::1"],
                            "timeout": "2s"})
        self.wait_for("10.1.0.11")

    def test_silent_server_is_named(self) -> None:
        self.start_sluiced({"type": "dns", "name": "web.example", "servers": ["10.77.9.2", "[fd77:9::2]:5353"],
                            "timeout": "400ms"})
        self.wait_for_text(r"servers 10\.77\.9\.2, \[fd77:9::2\]:5353 did not answer the question for web.example within "
                           "400ms; failing")

    def test_long_ttl_is_not_honoured_for_longer_than_max_interval(self) -> None:
        unbound = self.start_unbound("web.example. 86400 IN A 10.1.0.11")
        self.start_sluiced({"type": "dns", "name": "web.example", "servers": ["127.0.0.1"], "interval": "100ms",
                            "max_interval": "300ms"})
        self.wait_for("10.1.0.11")
        self.stop(unbound)
        self.start_unbound("web.example. 86400 IN A 10.1.0.11", "web.example. 86400 IN A 10.1.0.12")
        self.wait_for("10.1.0.11", "10.1.0.12")

    def test_ttl_is_waited_for(self) -> None:
        self.start_unbound("web.example. 100 IN A 10.1.0.11")
        self.start_sluiced({"type": "dns", "name": "web.example", "servers": ["127.0.0.1"], "interval": "100ms"})
        self.wait_for("10.1.0.11")
        next_try_ms = self._report()["next_try_ms"]
        self.assertGreater(next_try_ms, 60_000)
        self.assertLessEqual(next_try_ms, 100_000)

    def test_targets_have_weights_priorities_and_ports(self) -> None:
        self.start_unbound("_web._tcp.example. 1 IN SRV 0 30 8080 b1.example.",
                           "_web._tcp.example. 1 IN SRV 0 10 8081 b2.example.",
                           "_web._tcp.example. 1 IN SRV 5 10 8080 spare.example.",
                           "_web._tcp.example. 1 IN SRV 5 10 8080 missing.example.",
                           "b1.example. 60 IN A 10.1.0.11", "b2.example. 60 IN AAAA 2001:db8::12",
                           "spare.example. 60 IN A 10.1.0.13")
        self.start_sluiced({"type": "dns", "name": "_web._tcp.example", "record": "srv", "servers": ["::1"]},
                           health={"type": "tcp", "port": 1, "interval": "100ms", "timeout": "50ms"})
        found = self.wait_for("10.1.0.11", "2001-db8--12", "10.1.0.13")
        self.assertEqual({name: (one["weight"], one["priority"]) for name, one in found.items()},
                         {"10.1.0.11": (30, 0), "2001-db8--12": (10, 0), "10.1.0.13": (10, 5)})
        self.assertIn('target "missing.example" has no address', self.ctl("discovery")[1])

    def test_twenty_thousand_backends_by_tcp_in_a_pool_that_has_room_and_in_one_that_has_not(self) -> None:
        targets = [f"b{i}.example." for i in range(5)]
        records = [f"_web._tcp.example. 60 IN SRV 0 1 80 {target}" for target in targets]
        records += [f"{target} 60 IN A 10.{i}.{j // 250}.{j % 250 + 1}" for i, target in enumerate(targets)
                    for j in range(4000)]
        self.start_unbound(*records)
        source = {"type": "dns", "name": "_web._tcp.example", "record": "srv", "servers": ["127.0.0.1"]}
        self.start_sluiced(source, slots=101)
        self.wait_for_text("gave 20000 backends: pool web would have 20000 backends and has 101 slots; nothing is known")
        self.configure(source, slots=65537)
        self.assertEqual(self.ctl("reload")[0], 0)
        self.wait_for_text(" ok +20,000 +20000 backends, said")
        self.wait(lambda: len(self.backends()) == 20000, "20,000 backends")

    def _report(self) -> dict:
        return json.loads(self.ctl("-o", "json", "discovery")[1])["sources"][0]


class DiscoveryByRegistration(Discovery):
    def test_backends_come_beat_go_and_fall_silent(self) -> None:
        self.start_sluiced({"type": "registration"})
        self.assertEqual(self.ctl("register", "web/b1", "--address", "10.1.0.11", "--ttl", "1h", "--weight", "7")[0], 0)
        self.assertEqual(self.ctl("register", "web/b2", "--address", "2001:db8::12", "--ttl", "1s")[0], 0)
        self.assertEqual(self.backends()["b1"]["weight"], 7)
        self.assertEqual(self.backends()["b1"]["source"], "registration")
        code, said = self.ctl("register", "web/b1", "--address", "10.1.0.11", "--ttl", "1h", "--weight", "7")
        self.assertEqual((code, said), (0, "unchanged: heard of again\n"))
        self.wait_for("b1")
        self.restart_sluiced()
        self.wait_for("b1")
        self.assertEqual(self.ctl("deregister", "web/b1")[0], 0)
        self.wait_for()
        self.assertEqual(self.ctl("deregister", "web/b1"),
                         (3, 'sluicectl: no backend "b1" is registered in pool "web"\n'))

    def test_registration_that_cannot_be_says_why(self) -> None:
        self.start_sluiced({"type": "registration"}, backends=[{"name": "own", "address": "10.1.0.99"}], slots=101)
        for arguments, code, part in [
                (("web/b1", "--address", "10.1.0.300", "--ttl", "10s"), 2, 'address "10.1.0.300" is no IPv4'),
                (("web/b1", "--address", "10.1.0.1", "--ttl", "10ms"), 2, 'ttl "10ms" is no duration from 1s to 24h'),
                (("web/b1", "--address", "198.51.100.10", "--ttl", "10s"), 6, "b1: 198.51.100.10 is a VIP"),
                (("web/own", "--address", "10.1.0.1", "--ttl", "10s"), 6, "has a backend of that name"),
                (("none/b1", "--address", "10.1.0.1", "--ttl", "10s"), 3, 'no pool "none" whose backends register'),
                (("web", "--address", "10.1.0.1", "--ttl", "10s"), 2, '"web" is no POOL/NAME')]:
            with self.subTest(arguments=arguments):
                got, said = self.ctl("register", *arguments)
                self.assertIn(part, said)
                self.assertEqual(got, code)
        self.wait_for("own")


if __name__ == "__main__":
    unittest.main()
