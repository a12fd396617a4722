"""A real Prometheus reads the metrics by HTTPS, and evaluates the alert rules and the dashboard's queries. It needs no
engine."""

import json
import pathlib
import subprocess
import urllib.parse

from test_api import PORT, Api
from testbed import processes
from testbed.commands import enter, need_command, run

_MONITORING = pathlib.Path(__file__).resolve().parent.parent.parent / "tools" / "packaging" / "monitoring"
_RULES = _MONITORING / "sluice-alerts.yml"
_PROMETHEUS = "127.0.0.1:9090"
_START_TIMEOUT_S = 60
# What the dashboard's variables and Grafana itself stand for.
_VARIABLES = {"$instance": ".*", "$__rate_interval": "30s"}


class MetricsByPrometheus(Api):
    def setUp(self) -> None:
        super().setUp()
        self.start_prometheus()

    def start_prometheus(self) -> None:
        credentials = self.place / "prometheus.token"
        credentials.write_text(self.tokens["viewer"], encoding="ascii")
        configuration = self.place / "prometheus.yml"
        configuration.write_text(json.dumps({
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(_RULES)],
            "scrape_configs": [{
                "job_name": "sluice", "scheme": "https", "static_configs": [{"targets": [f"127.0.0.1:{PORT}"]}],
                "tls_config": {"ca_file": self.certificates.authority},
                "authorization": {"credentials_file": str(credentials)}}]}), encoding="utf-8")
        log = self.place / "prometheus.log"
        record = processes.start(
            [need_command("prometheus"), f"--config.file={configuration}", f"--storage.tsdb.path={self.place / 'tsdb'}",
             f"--web.listen-address={_PROMETHEUS}"],
            netns=self.netns, record_path=self.place / "prometheus.process", log=log)
        self.addCleanup(processes.stop, record)
        processes.wait_until(lambda: self.query("up") == [1.0], _START_TIMEOUT_S, f"a first reading (log: {log})")

    def ask(self, path: str) -> dict:
        """What Prometheus' own API answers."""
        done = subprocess.run(enter(self.netns, ["curl", "--silent", "--max-time", "20", f"http://{_PROMETHEUS}{path}"]),
                              text=True, stdout=subprocess.PIPE, check=False)
        return json.loads(done.stdout) if done.stdout.startswith("{") else {"status": "unreachable"}

    def query(self, expression: str) -> list[float] | None:
        """The values of the series; None where it is no valid query."""
        answer = self.ask("/api/v1/query?" + urllib.parse.urlencode({"query": expression}))
        if answer["status"] != "success":
            return None
        return [float(series["value"][1]) for series in answer["data"]["result"]]

    def test_what_is_told_is_valid(self) -> None:
        status, said = self.curl("/metrics", token="viewer")
        self.assertEqual(status, 200)
        header, _, body = said.replace("\r\n", "\n").partition("\n\n")
        self.assertIn("text/plain; version=0.0.4", header)
        done = subprocess.run([need_command("promtool"), "check", "metrics"], input=body, text=True,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        self.assertEqual((done.returncode, done.stdout), (0, ""))
        self.assertEqual(self.status_of("/metrics"), 401)

    def test_backends_and_their_states_are_read(self) -> None:
        self.assertEqual(self.query('sluice_pool_backends{pool="web"}'), [1.0])
        self.assertEqual(self.query('sluice_dataplane_connected'), [1.0])
        self.assertEqual(self.status_of("/v1/backends/web/b1/drain", "-X", "POST", token="admin"), 200)
        self.wait(lambda: self.query('sluice_backend_up{pool="web",backend="b1"}') == [0.0], "a backend that is out")
        self.assertEqual(self.query('sluice_pool_serving_backends{pool="web"}'), [0.0])

    def test_alert_rules_are_loaded_and_evaluated(self) -> None:
        run([need_command("promtool"), "check", "rules", str(_RULES)])

        def rules() -> dict[str, dict]:
            groups = self.ask("/api/v1/rules")["data"]["groups"]
            return {rule["name"]: rule for group in groups for rule in group["rules"]}

        def are_evaluated() -> bool:
            return bool(rules()) and all(rule["health"] == "ok" for rule in rules().values())

        self.wait(are_evaluated, "an evaluation of every rule")
        for name in ("SluiceDataplaneUnreachable", "SluiceReloadRefused", "SluicePoolWithoutBackends"):
            self.assertEqual(rules()[name]["state"], "inactive")
        self.assertEqual(self.status_of("/v1/backends/web/b1/drain", "-X", "POST", token="admin"), 200)
        self.wait(lambda: rules()["SluicePoolWithoutBackends"]["state"] == "firing", "an alert of the drained pool")
        (self.place / "sluice.yaml").write_text("version: 2\n", encoding="utf-8")
        self.assertEqual(self.status_of("/v1/reload", "-X", "POST", token="admin"), 422)
        self.wait(lambda: rules()["SluiceReloadRefused"]["state"] == "firing", "an alert of the refused reload")

    def test_queries_of_the_dashboard_are_valid_and_name_what_is_told(self) -> None:
        dashboard = json.loads((_MONITORING / "sluice-dashboard.json").read_text(encoding="utf-8"))
        expressions = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
        self.assertGreater(len(expressions), 10)
        for expression in expressions:
            for variable, value in _VARIABLES.items():
                expression = expression.replace(variable, value)
            with self.subTest(expression=expression):
                self.assertIsNotNone(self.query(expression))
        documented = (_MONITORING.parent.parent.parent / "docs" / "metrics.md").read_text(encoding="utf-8")
        named = {word for text in [*expressions, _RULES.read_text(encoding="utf-8")] for word in metric_names(text)}
        self.assertFalse([name for name in named if f"`{name.removesuffix('_bucket')}`" not in documented])


def metric_names(text: str) -> set[str]:
    """Every word that begins as a metric of ours."""
    return {word for word in text.replace("{", " ").replace("[", " ").replace("(", " ").replace(")", " ").split()
            if word.startswith("sluice_")}
