"""Alert rules and dashboards ask for metrics, labels and topics that there are."""

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from deploy.dashboards import DASHBOARDS, FOLDER, files
from mesh.topics import DEAD_LETTER_SERVICES, TOPICS, dead_letters
from tests.support.compose import WHOLE, composed
from tests.support.kustomize import rendered

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES: list[dict[str, Any]] = yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"][0]["rules"]
NAME = re.compile(r"\b(?:up|[A-Za-z][\w:]*_\w+)\b(?!\s*\()")
DOCUMENTED = re.compile(r"^\| `(\w+)(?:\{([\w,]+)\})?` \|", re.MULTILINE)
# What others measure: Prometheus, its node exporter, the kubelet, Triton, llama.cpp, NVIDIA's GPU operator
# and Python's client library.
OTHERS = {
    "up": {"job", "service", "instance"},
    "node_filesystem_avail_bytes": {"fstype", "mountpoint"},
    "node_filesystem_size_bytes": {"fstype", "mountpoint"},
    "kubelet_volume_stats_available_bytes": {"namespace", "persistentvolumeclaim"},
    "kubelet_volume_stats_capacity_bytes": {"namespace", "persistentvolumeclaim"},
    "DCGM_FI_DEV_GPU_TEMP": {"gpu", "modelName", "exported_namespace"},
    "llamacpp:prompt_tokens_total": set(),
    "llamacpp:requests_deferred": set(),
    "llamacpp:requests_processing": set(),
    "llamacpp:tokens_predicted_total": set(),
    "nv_gpu_memory_total_bytes": {"gpu_uuid"},
    "nv_gpu_memory_used_bytes": {"gpu_uuid"},
    "nv_gpu_power_usage": {"gpu_uuid"},
    "nv_gpu_utilization": {"gpu_uuid"},
    "nv_inference_count": {"model"},
    "nv_inference_exec_count": {"model"},
    "nv_inference_queue_duration_us": {"model"},
    "nv_inference_request_success": {"model"},
    "process_cpu_seconds_total": set(),
    "process_resident_memory_bytes": set(),
}
# Those that the scrapes add to everything.
ADDED = {"job", "service", "instance", "le"}
FUNCTIONS = re.compile(r"\b(?:histogram_quantile|avg_over_time|min_over_time|humanizeDuration)\b")


def documented() -> dict[str, set[str]]:
    """Lares's metrics with their labels, from docs/metrics.md, which is made from the code."""
    text = (ROOT / "docs" / "metrics.md").read_text()
    return {name: set(filter(None, labels.split(","))) for name, labels in DOCUMENTED.findall(text)}


def metric(name: str) -> str:
    """A histogram has three series."""
    return re.sub(r"_(?:bucket|count|sum)$", "", name) if name.startswith("lares_") else name


def queries() -> Iterator[tuple[str, str]]:
    for rule in RULES:
        yield rule["alert"], rule["expr"]
    for dashboard in DASHBOARDS:
        for panel in dashboard.rendered()["panels"]:
            for target in panel["targets"]:
                yield f"{dashboard.name}: {panel['title']}", target["expr"]
    for scaled in (each for each in rendered("overlays/production") if each["kind"] == "ScaledObject"):
        for trigger in scaled["spec"]["triggers"]:
            if trigger["type"] == "prometheus":
                yield scaled["metadata"]["name"], trigger["metadata"]["query"]


def names(query: str) -> set[str]:
    """The metrics of a query: what is left without strings, labels and functions."""
    bare = re.sub(r'"[^"]*"', "", query)
    bare = re.sub(r"\{[^}]*\}", "", bare)
    bare = re.sub(r"\b(?:by|on|without)\s*\([^)]*\)", "", bare)
    return set(NAME.findall(FUNCTIONS.sub("", bare)))


def labels(query: str) -> set[str]:
    """The labels by which a query selects or groups."""
    found = set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"", query))
    for group in re.findall(r"\b(?:by|on|without)\s*\(([^)]*)\)", query):
        found |= {label.strip() for label in group.split(",") if label.strip()}
    return found


@pytest.mark.parametrize(("where", "query"), queries(), ids=lambda text: text[:40])
def test_every_metric_and_label_exists(where: str, query: str) -> None:
    known = documented() | OTHERS
    asked = {metric(name) for name in names(query)}
    assert asked, query
    assert asked <= known.keys(), f"{where} asks for {asked - known.keys()}"
    has = ADDED.union(*(known[name] for name in asked))
    assert labels(query) <= has, f"{where} asks for the labels {labels(query) - has}"


def test_a_metric_that_there_is_not_would_be_noticed() -> None:
    assert names('sum by (topic) (rate(lares_consumer_lagg{topic="a_b"}[5m])) > 0 or up == 1') == {
        "lares_consumer_lagg",
        "up",
    }
    assert labels('sum by (topic, le) (x{service!="a", y=~"b"})') == {"topic", "le", "service", "y"}


def test_topics_of_queries_exist() -> None:
    known = {topic.name for topic in TOPICS} | set(map(dead_letters, DEAD_LETTER_SERVICES))
    asked: set[str] = set()
    for _, query in queries():
        for name, operator, pattern in re.findall(r'(topic)(=~|=)"([^"]*)"', query):
            matching = {
                topic
                for topic in known
                if re.fullmatch(re.escape(pattern) if operator == "=" else pattern, topic)
            }
            assert matching, f"{name}{operator}{pattern} is no topic"
            asked |= matching
    assert any(topic.endswith(".dead.v1") for topic in asked)


def test_every_alert_says_what_is_wrong() -> None:
    assert len({rule["alert"] for rule in RULES}) == len(RULES) > 10
    for rule in RULES:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert rule["annotations"]["summary"]


def test_kubernetes_has_the_same_alerts() -> None:
    (rule,) = (each for each in rendered("overlays/production") if each["kind"] == "PrometheusRule")
    assert rule["spec"]["groups"] == yaml.safe_load((PROMETHEUS / "alerts.yaml").read_text())["groups"]


def test_the_dashboards_are_written() -> None:
    assert {path: path.read_text() for path in FOLDER.glob("*.json")} == files()
    uids = [json.loads(text)["uid"] for text in files().values()]
    assert len(set(uids)) == len(uids)


def test_panels_do_not_overlap() -> None:
    for dashboard in DASHBOARDS:
        cells: set[tuple[int, int]] = set()
        for panel in dashboard.rendered()["panels"]:
            place = panel["gridPos"]
            covered = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not covered & cells
            assert max(x for x, _ in covered) < 24
            cells |= covered


def test_grafana_finds_its_source_and_its_dashboards() -> None:
    provisioning = ROOT / "deploy" / "grafana" / "provisioning"
    (source,) = yaml.safe_load((provisioning / "datasources" / "prometheus.yaml").read_text())["datasources"]
    for text in files().values():
        assert all(panel["datasource"]["uid"] == source["uid"] for panel in json.loads(text)["panels"])
    (provider,) = yaml.safe_load((provisioning / "dashboards" / "lares.yaml").read_text())["providers"]
    mounts = composed(WHOLE)["services"]["grafana"]["volumes"]
    assert f"../grafana/dashboards:{provider['options']['path']}:ro" in mounts
    assert "../grafana/provisioning:/etc/grafana/provisioning:ro" in mounts


def test_prometheus_scrapes_what_compose_runs() -> None:
    config = yaml.safe_load((PROMETHEUS / "prometheus.yaml").read_text())
    services = composed(WHOLE)["services"]
    aliases = {
        alias
        for service in services.values()
        if isinstance(service.get("networks"), dict)
        for alias in service["networks"]["inside"]["aliases"]
    }
    hosts = set()
    for job in config["scrape_configs"]:
        for found in job.get("dns_sd_configs", []):
            hosts |= set(found["names"])
        for found in job.get("static_configs", []):
            hosts |= {target.partition(":")[0] for target in found["targets"]}
    assert hosts <= services.keys() | aliases
    for llama in ("llama-cpu", "llama-gpu"):
        assert "--metrics" in services[llama]["command"]
    assert {name for name, service in services.items() if service.get("command", [None])[0] == "up"} <= hosts
    key = config["scrape_configs"][1]["authorization"]["credentials_file"]
    assert key.removeprefix("/run/secrets/") in services["prometheus"]["secrets"]


def promtool(*arguments: str | Path) -> "subprocess.CompletedProcess[str]":
    program = shutil.which("promtool")
    if program is None:
        pytest.skip("promtool is not on the PATH (Debian's package `prometheus` has it)")
    return subprocess.run([program, *arguments], capture_output=True, text=True, timeout=120, check=False)


def test_promtool_accepts_the_rules() -> None:
    result = promtool("check", "rules", PROMETHEUS / "alerts.yaml")
    assert result.returncode == 0, result.stdout + result.stderr


def test_promtool_accepts_the_scrapes() -> None:
    result = promtool("check", "config", "--syntax-only", PROMETHEUS / "prometheus.yaml")
    assert result.returncode == 0, result.stdout + result.stderr


def test_the_alerts_fire_when_they_should() -> None:
    result = promtool("test", "rules", Path(__file__).with_name("alerts_fire.yaml"))
    assert result.returncode == 0, result.stdout + result.stderr
