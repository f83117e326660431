"""Holds rules and dashboards for Prometheus and Grafana to the figures that `GET /metrics` tells, and rings each alert.

The figures are those of the answer in the file METRICS_FILE, if it is given, and else those that the function's own test expects. Where
Debian's package `prometheus` can be had, its promtool checks configuration and rules, and a Prometheus scrapes the figures and
answers every panel's query; where it cannot, this says so and goes on.

Runs with the libraries of infra/local/sam.txt: .local/tools/sam/bin/python tests/prometheus_suite.py
"""
from __future__ import annotations

import contextlib
import functools
import http.server
import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
PROMETHEUS, TOOLS = ROOT / "infra/prometheus", ROOT / ".local/tools/prometheus"
OLDEST = (2, 42)  # Debian 12 has it; older ones know no `keep_firing_for`, and their messages differ
RULES = [rule for group in yaml.safe_load((PROMETHEUS / "rules.yml").read_text())["groups"] for rule in group["rules"]]
RECORDED = {rule["record"]: rule["expr"] for rule in RULES if "record" in rule}
ALERTS = {rule["alert"]: rule for rule in RULES if "alert" in rule}
PANELS = [panel for file in sorted(PROMETHEUS.glob("grafana/dashboards/*.json")) for panel in json.loads(file.read_text())["panels"]]
SAMPLE = re.compile(r"^(\w+)(?:\{(.*)\})? \S+$")

# ---------------------------------------------------------------- the figures


@functools.cache
def exposition() -> str:
    """What Prometheus reads: an answer of the running service, or what the function's source says that there is."""
    if file := os.environ.get("METRICS_FILE"):
        return Path(file).read_text()
    source = "".join(path.read_text() for path in sorted((ROOT / "functions/metrics/src").glob("*.rs")))
    said = re.sub(r"#\[cfg\(test\)\]\nmod tests \{.*?\n}\n", "", source, flags=re.S)
    families = {f"order_service_{name}": rest for name, *rest in re.findall(r'\.family\("(\w+)", "(\w+)", "([^"]+)"\)', said)}
    lines = []
    for sample in (ROOT / "functions/metrics/src/samples.golden.txt").read_text().splitlines():
        name = SAMPLE.match(sample)[1]
        family = name if name in families else re.sub(r"_(sum|count|bucket)$", "", name)
        if family in families:
            kind, text = families.pop(family)
            lines += [f"# HELP {family} {text}", f"# TYPE {family} {kind}"]
        lines.append(sample)
    assert lines and not families, f"the function's test expects no sample of {set(families)}"
    return "\n".join(lines) + "\n"


def figures() -> dict[str, dict[str, set[str]]]:
    """Each figure with its labels, and their values. What Prometheus makes of a scrape is among them."""
    found: dict[str, dict[str, set[str]]] = {"up": {"job": {"order-service"}}}
    for match in filter(None, map(SAMPLE.match, exposition().splitlines())):
        labels = found.setdefault(match[1], {})
        for label, value in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', match[2] or ""):
            labels.setdefault(label, set()).add(value)
            if label == "le" and value.isdigit():
                labels[label].add(f"{value}.0")  # as Prometheus 3 writes it
    queues = re.search(r"DEAD_LETTER_QUEUES: &\S+ !Sub >-\n(.*?)\n +Policies:", (ROOT / "template.yaml").read_text(), re.S)[1]
    if "METRICS_FILE" not in os.environ:  # the names of queues are settings
        found["order_service_dead_letters"]["queue"] = set(re.findall(r"([\w-]+)=\$", queues))
    return found


def selectors(query: str) -> list[tuple[str, list[tuple[str, str, str]]]]:
    found = re.findall(r"\b(up|order_service[\w:]*)(?:\{([^}]*)\})?", query)
    return [(name, re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', labels)) for name, labels in found]


def queries() -> dict[str, str]:
    """By what asks them."""
    asked = {f"rule {name}": expression for name, expression in RECORDED.items()} | {f"alert {name}": rule["expr"] for name, rule in ALERTS.items()}
    return asked | {f"panel {panel['title']}: {target['refId']}": target["expr"] for panel in PANELS for target in panel["targets"]}


class Names(unittest.TestCase):
    def test_every_figure_and_label_is_told(self):
        told = figures()
        for who, query in queries().items():
            with self.subTest(who):
                self.assertTrue(selectors(query))
                for name, matchers in selectors(query):
                    if name not in RECORDED:
                        self.assertIn(name, told)
                    for label, how, text in matchers:
                        self.assertIn(label, told[name], "a recorded figure is asked for as a whole")
                        for value in text.split("|") if how.endswith("~") else [text]:
                            self.assertIn(value, told[name][label])
                for label in [label.strip() for labels in re.findall(r"\b(?:by|without) \(([^)]*)\)", query) for label in labels.split(",")]:
                    self.assertTrue(any(label in told.get(name, {}) for name, _ in selectors(query)), label)

    def test_legends_name_labels_that_there_are(self):
        for panel in PANELS:
            for target in panel["targets"]:
                for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                    with_it = [name for name, _ in selectors(RECORDED.get(target["expr"], target["expr"])) if label in figures().get(name, {})]
                    self.assertTrue(with_it, f"{panel['title']}: {label}")

    def test_every_alert_has_its_heading(self):
        headings = re.findall(r"^### (\w+)$", (ROOT / "docs/runbook.md").read_text(), re.M)
        for name, rule in ALERTS.items():
            self.assertIn(name, headings)
            self.assertEqual(rule["annotations"]["runbook"], f"docs/runbook.md#{name.lower()}")

    def test_what_is_mounted_fits_together(self):
        (source,) = yaml.safe_load((PROMETHEUS / "grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
        self.assertEqual({panel["datasource"]["uid"] for panel in PANELS}, {source["uid"]})
        self.assertEqual(len({panel["id"] for panel in PANELS}), len(PANELS))
        (job,) = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]
        self.assertIn(f'up{{job="{job["job_name"]}"}}', ALERTS["FiguresMissing"]["expr"])


# ---------------------------------------------------------------- Debian's Prometheus


@functools.cache
def tool(name: str) -> str | None:
    """`promtool` or `prometheus` of this machine, or of Debian's package, which needs no installation to run."""
    if there := shutil.which(name):
        return there if version(there) >= OLDEST else None
    if not (TOOLS / "usr/bin" / name).exists() and shutil.which("apt-get") and shutil.which("dpkg"):
        with tempfile.TemporaryDirectory() as folder, contextlib.suppress(subprocess.SubprocessError):
            quiet = {"cwd": folder, "check": True, "timeout": 300, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
            try:
                subprocess.run(["apt-get", "download", "prometheus"], **quiet)
            except subprocess.CalledProcessError:
                if os.environ.get("CI") != "true":
                    raise
                subprocess.run(["apt-get", "update"], **quiet)  # a fresh machine has no lists
                subprocess.run(["apt-get", "download", "prometheus"], **quiet)
            (package,) = Path(folder).glob("*.deb")
            subprocess.run(["dpkg", "-x", package, f"{folder}/x"], **quiet)
            shutil.copytree(f"{folder}/x/usr/bin", TOOLS / "usr/bin", dirs_exist_ok=True)
    there = TOOLS / "usr/bin" / name
    return str(there) if there.exists() and version(str(there)) >= OLDEST else None


def version(program: str) -> tuple[int, ...]:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=60)
    return tuple(map(int, re.search(r"version (\d+)\.(\d+)", said.stdout + said.stderr).groups()))


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@unittest.skipUnless(tool("promtool"), "no promtool, and no Debian package of it to be had")
class Promtool(unittest.TestCase):
    def run_promtool(self, *arguments: str, **more):
        done = subprocess.run([tool("promtool"), *arguments], cwd=ROOT, capture_output=True, text=True, timeout=120, **more)
        self.assertEqual((done.returncode, done.stderr), (0, ""), done.stdout)

    def test_configuration_and_rules(self):
        self.run_promtool("check", "config", "--lint-fatal", str(PROMETHEUS / "prometheus.yml"))
        self.run_promtool("check", "rules", "--lint-fatal", str(PROMETHEUS / "rules.yml"))

    def test_figures(self):
        self.run_promtool("check", "metrics", input=exposition())

    def test_every_alert_rings_and_is_silent(self):
        cases = yaml.safe_load((ROOT / "tests/prometheus_rules.yml").read_text())["tests"]
        tried = [(one["alertname"], bool(one.get("exp_alerts"))) for case in cases for one in case["alert_rule_test"]]
        self.assertEqual(set(tried), {(name, rings) for name in ALERTS for rings in (True, False)})
        self.run_promtool("test", "rules", "tests/prometheus_rules.yml")


@unittest.skipUnless(tool("prometheus"), "no Prometheus, and no Debian package of it to be had")
class Panels(unittest.TestCase):
    def test_every_panel_shows_something(self):
        with serving(growing()) as metrics, scraping(metrics) as prometheus:
            deadline = time.monotonic() + 60
            waiting = {who: query for who, query in queries().items() if who.startswith("panel")}
            while waiting and time.monotonic() < deadline:
                waiting = {who: query for who, query in waiting.items() if not asked(prometheus, query)}
                time.sleep(0.2)
        self.assertEqual(waiting, {}, "nothing to see")


def growing():
    """The figures, each a little more than at the last scrape: rates of what stands still would be of nothing."""
    scrapes = 0

    def text() -> bytes:
        nonlocal scrapes
        scrapes += 1
        return re.sub(r"^([^#\n]*) (\S+)$", lambda sample: f"{sample[1]} {float(sample[2]) + scrapes}", exposition(), flags=re.M).encode()

    return text


@contextlib.contextmanager
def serving(text):
    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("content-type", "text/plain; version=0.0.4")
            self.end_headers()
            self.wfile.write(text())

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()


@contextlib.contextmanager
def scraping(metrics: int):
    """A Prometheus with the rules, which looks every second. Of the configuration, only where the service is differs."""
    config = yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    del config["alerting"]
    config["rule_files"] = [str(PROMETHEUS / "rules.yml")]
    (job,) = config["scrape_configs"]
    for setting in ("oauth2", "scheme", "scrape_timeout"):
        del job[setting]
    job["static_configs"] = [{"targets": [f"127.0.0.1:{metrics}"]}]
    with tempfile.TemporaryDirectory() as folder:
        file, port = Path(folder) / "prometheus.yml", free_port()
        file.write_text(yaml.safe_dump(config))
        options = [f"--config.file={file}", f"--storage.tsdb.path={folder}/data", f"--web.listen-address=127.0.0.1:{port}"]
        process = subprocess.Popen([tool("prometheus"), *options],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            yield port
        finally:
            process.terminate()
            process.wait(timeout=60)


def asked(prometheus: int, query: str) -> list:
    address = f"http://127.0.0.1:{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": query})
    try:
        with urllib.request.urlopen(address, timeout=10) as answer:
            return json.load(answer)["data"]["result"]
    except (urllib.error.URLError, ConnectionError):
        return []  # it has not started yet


if __name__ == "__main__":
    if not tool("promtool"):
        print("No promtool and no Debian package of it to be had here: names are checked, and nothing is run")
    unittest.main()
