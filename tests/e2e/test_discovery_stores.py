"""Backends that sluiced learns from a real etcd, and from a server that speaks Consul's HTTP API."""

import json

from discovery_testbed import CONSUL, ETCD, ConsulServer, Discovery, encode, instance
from health_servers import NAME, Certificates
from testbed import processes

_ENDPOINT = f"http://127.0.0.1:{ETCD}"


class DiscoveryFromEtcd(Discovery):
    def test_keys_come_change_go_and_outlive_etcd(self) -> None:
        etcd = self.start_etcd()
        self.etcd_put("b1", {"address": "10.1.0.11", "weight": 50})
        self.etcd_put("b2", {"address": "2001:db8::12"})
        self.etcd_put("bad", "nonsense")
        self.etcd("/v3/kv/put", {"key": encode("/webs/b9"), "value": encode('{"address": "10.1.0.19"}')})
        self.start_sluiced({"type": "etcd", "endpoints": ["http://127.0.0.1:1", f"http://[::1]:{ETCD}"],
                            "prefix": "/web/", "interval": "1h", "timeout": "2s"})
        found = self.wait_for("b1", "b2")
        self.assertEqual((found["b1"]["weight"], found["b1"]["source"]), (50, "etcd /web/"))
        self.assertIn('key "/web/bad": "nonsense" is no JSON object', self.ctl("discovery")[1])
        lease = self.etcd("/v3/lease/grant", {"TTL": "2"})["ID"]
        revision = self.etcd_put("b3", {"address": "10.1.0.13"}, lease=lease)
        self.wait_for("b1", "b2", "b3")
        self.wait_for("b1", "b2")  # the lease has ended
        self.etcd_put("b1", {"address": "10.1.0.11", "weight": 70})
        self.wait(lambda: self.backends()["b1"]["weight"] == 70, "the new weight")
        self.etcd("/v3/kv/compaction", {"revision": str(revision), "physical": True})
        self.etcd_put("b4", {"address": "10.1.0.14"})
        self.wait_for("b1", "b2", "b4")
        processes.kill_group(etcd)
        self.wait_for_text(r"http://\[::1\]:2379: .*; failing for \d+ s; 3 backends of .* UTC are kept; next try in")
        self.wait_for("b1", "b2", "b4")
        self.restart_sluiced()
        self.wait_for("b1", "b2", "b4")
        self.start_etcd()
        self.etcd_put("b5", {"address": "10.1.0.15"})
        self.wait_for("b1", "b2", "b4", "b5")
        self.etcd("/v3/kv/deleterange", {"key": encode("/web/"), "range_end": encode("/web0")})
        self.wait_for_text("gave 0 backends, fewer than min_backends, which is 1; 4 backends of")
        self.wait_for("b1", "b2", "b4", "b5")

    def test_compactions_while_it_is_watched_lose_no_change(self) -> None:
        self.start_etcd()
        self.etcd_put("b1", {"address": "10.1.0.11"})
        self.start_sluiced({"type": "etcd", "endpoints": [_ENDPOINT], "prefix": "/web/", "interval": "500ms"})
        self.wait_for("b1")
        for i in range(5):
            revision = self.etcd_put("b2", {"address": f"10.1.0.2{i}"})
            self.etcd("/v3/kv/compaction", {"revision": str(revision), "physical": True})
        self.wait(lambda: self.backends().get("b2", {}).get("address") == "10.1.0.24", "the last address")

    def test_twenty_thousand_keys(self) -> None:
        self.start_etcd()
        for first in range(0, 20000, 100):  # etcd takes up to 128 in one transaction
            self.etcd("/v3/kv/txn", {"success": [
                {"request_put": {"key": encode(f"/web/b{i}"),
                                 "value": encode(json.dumps({"address": f"10.{i // 250}.0.{i % 250 + 1}"}))}}
                for i in range(first, first + 100)]})
        self.start_sluiced({"type": "etcd", "endpoints": [_ENDPOINT], "prefix": "/web/"}, slots=65537)
        self.wait(lambda: len(self.backends()) == 20000, "20,000 backends")

    def test_user_and_password(self) -> None:
        self.start_etcd()
        self.etcd_put("b1", {"address": "10.1.0.11"})
        for path, body in [("user/add", {"name": "root", "password": "secret"}),
                           ("user/add", {"name": "sluice", "password": "open sesame"}), ("role/add", {"name": "root"}),
                           ("role/add", {"name": "web"}), ("user/grant", {"user": "root", "role": "root"}),
                           ("role/grant", {"name": "web", "perm": {"permType": "READ", "key": encode("/web/"),
                                                                   "range_end": encode("/web0")}}),
                           ("user/grant", {"user": "sluice", "role": "web"}), ("enable", {})]:
            self.etcd(f"/v3/auth/{path}", body)
        password = self.place / "password"
        password.write_text("wrong\n", encoding="ascii")
        self.start_sluiced({"type": "etcd", "endpoints": [_ENDPOINT], "prefix": "/web/", "username": "sluice",
                            "password_file": str(password)})
        self.wait_for_text("HTTP status 400: .*authentication failed, invalid user ID or password")
        password.write_text("open sesame\n", encoding="ascii")
        self.wait_for("b1")
        token = self.etcd("/v3/auth/authenticate", {"name": "root", "password": "secret"})["token"]
        self.etcd_put("b2", {"address": "10.1.0.12"}, "-H", f"Authorization: {token}")
        self.wait_for("b1", "b2")

    def test_client_certificates(self) -> None:
        certificates = Certificates(self.place / "certificates")
        self.start_etcd(certificates)
        client = ["--cacert", certificates.authority, "--cert", certificates.certificate("client"), "--key",
                  certificates.key("client")]
        endpoint = f"https://[::1]:{ETCD}"
        self.etcd_put("b1", {"address": "10.1.0.11"}, *client, url=endpoint)
        tls = {"ca_file": certificates.authority, **certificates.client("client")}
        source = {"type": "etcd", "endpoints": [endpoint], "prefix": "/web/"}
        self.start_sluiced({**source, "tls": {**tls, "server_name": "other.example"}})
        self.wait_for_text("certificate is not for other.example; failing")
        self.configure({**source, "tls": {"ca_file": certificates.authority}})
        self.assertEqual(self.ctl("reload")[0], 0)
        self.wait_for_text(r"etcd /web/ +failing .*https://\[::1\]:2379: .*(alert|certificate)")
        self.configure({**source, "tls": {**tls, "server_name": NAME}})
        self.assertEqual(self.ctl("reload")[0], 0)
        self.wait_for("b1")
        self.etcd_put("b2", {"address": "10.1.0.12"}, *client, url=endpoint)
        self.wait_for("b1", "b2")


class DiscoveryFromConsul(Discovery):
    """Not Consul: Debian 12 does not have it. ConsulServer does what Consul documents."""

    def serve(self, token: str = "") -> ConsulServer:
        server = ConsulServer(self.netns, token)
        self.addCleanup(server.stop)
        return server

    def start(self, **more: object) -> None:
        self.start_sluiced({"type": "consul", "endpoints": [f"http://127.0.0.1:{CONSUL}"], "service": "web",
                            "interval": "20s", **more})

    def test_instances_are_followed_by_blocking_queries(self) -> None:
        consul = self.serve()
        consul.set(instance("web-1", "10.1.0.11"), instance("web-2", "", node="2001:db8::12"))
        self.start(datacenter="dc1", tag="blue&green")
        self.wait_for("10.1.0.11", "2001-db8--12")
        consul.set(instance("web-1", "10.1.0.11", weight=3), instance("web-3", "10.1.0.13"))
        found = self.wait_for("10.1.0.11", "10.1.0.13")
        self.assertEqual({name: one["weight"] for name, one in found.items()}, {"10.1.0.11": 3, "10.1.0.13": 1})
        consul.set(instance("web-1", "10.1.0.11"), instance("web-4", "10.1.0.14"), index=3)  # it was restored
        self.wait_for("10.1.0.11", "10.1.0.14")
        consul.set(instance("web-1", "10.1.0.11"), instance("web-5", "10.1.0.15"), index=4)
        self.wait_for("10.1.0.11", "10.1.0.15")
        self.assertEqual([query.get("index") for query in consul.queries[:3]], [None, "11", "12"])
        self.assertIn("11", [query.get("index") for query in consul.queries])
        first = consul.queries[0]
        self.assertEqual((first["path"], first["passing"], first["dc"], first["tag"]),
                         ("/v1/health/service/web", "1", "dc1", "blue&green"))
        self.assertEqual(consul.queries[1]["wait"], "20000ms")
        consul.set()
        self.wait_for_text("gave 0 backends, fewer than min_backends, which is 1; 2 backends of")
        self.wait_for("10.1.0.11", "10.1.0.15")

    def test_token_and_a_dead_agent(self) -> None:
        consul = self.serve("secret")
        consul.set(instance("web-1", "10.1.0.11"))
        token = self.place / "token"
        token.write_text("another\n", encoding="ascii")
        self.start(token_file=str(token))
        self.wait_for_text('HTTP status 403: "Permission denied"; failing')
        token.write_text("secret\n", encoding="ascii")
        self.wait_for("10.1.0.11")
        consul.stop()
        self.wait_for_text("http://127.0.0.1:8500: .*; failing for .*; 1 backend of .* UTC is kept")
        again = self.serve("secret")
        again.set(instance("web-1", "10.1.0.11"), instance("web-2", "10.1.0.12"))
        self.wait_for("10.1.0.11", "10.1.0.12")
