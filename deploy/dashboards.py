"""Writes Grafana's dashboards: `python -m deploy.dashboards`; `--check` says whether they are up to date.

A dashboard is rows of panels, and a panel a few queries. The rest of what Grafana wants is the same for all.
"""

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

FOLDER = Path(__file__).with_name("grafana") / "dashboards"
SOURCE = {"type": "prometheus", "uid": "prometheus"}
WIDTH, HEIGHT = 24, 8


@dataclass(frozen=True)
class Panel:
    """`queries`: the legend of each (with {{label}}) and its PromQL. `unit` is one of Grafana's."""

    title: str
    queries: dict[str, str]
    unit: str = "short"
    kind: Literal["timeseries", "stat", "bargauge"] = "timeseries"
    description: str = ""
    stacked: bool = False

    def rendered(self, number: int, place: dict[str, int]) -> dict[str, Any]:
        targets = [
            {"refId": chr(ord("A") + index), "expr": query, "legendFormat": legend, "datasource": SOURCE}
            for index, (legend, query) in enumerate(self.queries.items())
        ]
        defaults: dict[str, Any] = {"unit": self.unit, "min": 0}
        if self.kind == "timeseries":
            stacking = "normal" if self.stacked else "none"
            defaults["custom"] = {"fillOpacity": 10, "showPoints": "never", "stacking": {"mode": stacking}}
        return {
            "id": number,
            "type": self.kind,
            "title": self.title,
            "description": self.description,
            "datasource": SOURCE,
            "gridPos": place,
            "targets": targets,
            "fieldConfig": {"defaults": defaults, "overrides": []},
        }


@dataclass(frozen=True)
class Dashboard:
    """`rows`: panels that share the width. `name` is that of the file and in the address."""

    name: str
    title: str
    rows: Sequence[Sequence[Panel]]

    def rendered(self) -> dict[str, Any]:
        panels: list[dict[str, Any]] = []
        for number, row in enumerate(self.rows):
            width = WIDTH // len(row)
            for column, panel in enumerate(row):
                place = {"x": column * width, "y": number * HEIGHT, "w": width, "h": HEIGHT}
                panels.append(panel.rendered(len(panels) + 1, place))
        return {
            "uid": f"lares-{self.name}",
            "title": f"Lares: {self.title}",
            "tags": ["lares"],
            "timezone": "browser",
            "schemaVersion": 39,
            "refresh": "30s",
            "time": {"from": "now-6h", "to": "now"},
            "links": [{"type": "dashboards", "tags": ["lares"], "title": "Lares", "asDropdown": True}],
            "panels": panels,
        }


def quantile(of: float, metric: str, by: str) -> str:
    return f'histogram_quantile({of}, sum by ({by}, le) (rate({metric}_bucket{{job="lares"}}[5m])))'


def per_minute(topic: str) -> str:
    """How many records are published on the topic in a minute."""
    return f'sum(rate(lares_published_records_total{{job="lares",topic="{topic}"}}[5m])) * 60'


PIPELINE = Dashboard(
    "pipeline",
    "pipeline",
    [
        [
            Panel(
                "Processes that answer", {"{{service}}": 'sum by (service) (up{job="lares"})'}, kind="stat"
            ),
            Panel(
                "What is waited for",
                {
                    "{{service}}: {{dependency}}": "sum by (service, dependency)"
                    ' (lares_dependency_ready{job="lares"} == 0)'
                },
                kind="stat",
                description="Empty while all is well.",
            ),
            Panel(
                "Put aside in the last day",
                {
                    "{{topic}}": "sum by (topic)"
                    ' (increase(lares_published_records_total{job="lares",topic=~".+[.]dead[.]v1"}[1d]))'
                },
                kind="stat",
            ),
        ],
        [
            Panel(
                "Records published",
                {"{{topic}}": 'sum by (topic) (rate(lares_published_records_total{job="lares"}[5m]))'},
                unit="cps",
            ),
            Panel(
                "Records taken",
                {
                    "{{service}}: {{topic}}": "sum by (service, topic)"
                    ' (rate(lares_consumer_batch_records_sum{job="lares"}[5m]))'
                },
                unit="cps",
            ),
        ],
        [
            Panel(
                "Time until records are durable",
                {
                    "p50": quantile(0.5, "lares_publish_seconds", "job"),
                    "p99": quantile(0.99, "lares_publish_seconds", "job"),
                },
                unit="s",
            ),
            Panel(
                "Slowest calls between services, p99",
                {"{{method}}": f"topk(8, {quantile(0.99, 'lares_rpc_seconds', 'method')})"},
                unit="s",
            ),
        ],
        [
            Panel(
                "CPU",
                {"{{service}}": 'sum by (service) (rate(process_cpu_seconds_total{job="lares"}[5m]))'},
                description="In cores. Without the children that decode and detect.",
            ),
            Panel(
                "Memory",
                {"{{service}} {{instance}}": 'process_resident_memory_bytes{job="lares"}'},
                unit="bytes",
            ),
            Panel(
                "Connections to PostgreSQL",
                {
                    "{{instance}} {{state}}": "sum by (instance, state) (lares_database_connections)",
                    "{{instance}} calls that wait": "sum by (instance) (lares_database_waiting_calls)",
                    "{{instance}} at most": "sum by (instance) (lares_database_connection_limit)",
                },
            ),
            Panel(
                "How late event loops run",
                {"{{service}} {{instance}}": 'lares_event_loop_lag_seconds{job="lares"}'},
                unit="s",
            ),
        ],
    ],
)
LAG = Dashboard(
    "kafka-lag",
    "Kafka lag",
    [
        [
            Panel(
                "Records that are not finished",
                {
                    "{{service}}: {{topic}}": "sum by (service, topic)"
                    ' (lares_consumer_lag_records{job="lares"})'
                },
                description="Each service that reads a topic has its own.",
                stacked=True,
            ),
            Panel(
                "Of them fetched by a process",
                {
                    "{{service}}: {{topic}}": "sum by (service, topic)"
                    ' (lares_consumer_unfinished_records{job="lares"})'
                },
            ),
        ],
        [
            Panel(
                "Partitions with the largest lag",
                {
                    "{{service}}: {{topic}} {{partition}}": "topk(10, max by (service, topic, partition)"
                    ' (lares_consumer_lag_records{job="lares"}) > 0)'
                },
                kind="bargauge",
                description="One camera is in one partition: a single long bar is a single busy camera.",
            ),
            Panel(
                "Records taken at a time",
                {"{{topic}}": quantile(0.5, "lares_consumer_batch_records", "topic")},
                description="Large batches are a sign of catching up.",
            ),
        ],
    ],
)
EVENTS = Dashboard(
    "events",
    "events and the API",
    [
        [
            Panel(
                "Changes of events",
                {"changes": per_minute("store.feed.v1")},
                description="In a minute.",
            ),
            Panel(
                "Detections",
                {"media": per_minute("detect.detections.v1")},
                description="Photos and frames that were detected, in a minute.",
            ),
            Panel(
                "Media taken in and rejected",
                {
                    "taken": per_minute("ingest.media.v1"),
                    "rejected": per_minute("ingest.rejections.v1"),
                },
                description="In a minute.",
            ),
        ],
        [
            Panel("Subscribers", {"{{instance}}": 'lares_sockets{job="lares"}'}),
            Panel(
                "Answers sent to subscribers",
                {"answers": 'sum(rate(lares_deliveries_total{job="lares"}[5m]))'},
                unit="cps",
            ),
            Panel(
                "HTTP requests",
                {"{{status}}": 'sum by (status) (rate(lares_http_requests_total{job="lares"}[5m]))'},
                unit="reqps",
                stacked=True,
            ),
        ],
        [
            Panel(
                "Time of HTTP requests, p95",
                {"{{path}}": quantile(0.95, "lares_http_request_seconds", "path")},
                unit="s",
            ),
            Panel("Pictures and clips to be made", {"waiting": "max(lares_waiting_renditions)"}),
            Panel("Pictures and clips that are kept", {"bytes": "max(lares_rendition_bytes)"}, unit="bytes"),
        ],
    ],
)
ASSESSMENTS = Dashboard(
    "assessments",
    "assessments",
    [
        [
            Panel("Events that wait", {"events": "max(lares_backlog_events)"}),
            Panel(
                "How long the first has waited", {"seconds": "max(lares_backlog_oldest_seconds)"}, unit="s"
            ),
            Panel("Time until all are assessed", {"seconds": "max(lares_backlog_eta_seconds)"}, unit="s"),
        ],
        [
            Panel(
                "The reasoner's state",
                {"{{state}}": "max by (state) (lares_reasoner_state)"},
                description="1 is the present one.",
            ),
            Panel(
                "Assessments",
                {"assessed": per_minute("reason.assessments.v1")},
                description="In a minute.",
            ),
            Panel(
                "Tokens",
                {"{{kind}}": "sum by (kind) (rate(lares_reasoner_tokens_total[5m]))"},
                description="In a second. `cached` are those of the prompt that the server had already.",
            ),
        ],
        [
            Panel(
                "llama.cpp: requests",
                {
                    "in work": "sum(llamacpp:requests_processing)",
                    "waiting for a slot": "sum(llamacpp:requests_deferred)",
                },
                description="Nothing with the rules, or with another server.",
            ),
            Panel(
                "llama.cpp: tokens",
                {
                    "of prompts": "sum(rate(llamacpp:prompt_tokens_total[5m]))",
                    "of answers": "sum(rate(llamacpp:tokens_predicted_total[5m]))",
                },
                description="In a second.",
            ),
        ],
    ],
)
WHOSE_GPUS = "Of the machine of detect_svc, if it has any, and of Triton's servers, which tell only theirs."
GPU = Dashboard(
    "gpu",
    "GPUs and detectors",
    [
        [
            Panel(
                "How busy",
                {
                    "{{index}} {{name}}": "max by (index, name) (lares_gpu_utilization_ratio)",
                    "Triton's {{gpu_uuid}}": "max by (gpu_uuid) (nv_gpu_utilization)",
                },
                unit="percentunit",
                description=WHOSE_GPUS,
            ),
            Panel(
                "Memory",
                {
                    "{{index}} used": "max by (index) (lares_gpu_memory_used_bytes)",
                    "{{index}} built in": "max by (index) (lares_gpu_memory_total_bytes)",
                    "Triton's {{gpu_uuid}} used": "max by (gpu_uuid) (nv_gpu_memory_used_bytes)",
                    "Triton's {{gpu_uuid}} built in": "max by (gpu_uuid) (nv_gpu_memory_total_bytes)",
                },
                unit="bytes",
                description=WHOSE_GPUS,
            ),
        ],
        [
            Panel(
                "Temperature",
                {
                    "{{index}} {{name}}": "max by (index, name) (lares_gpu_temperature_celsius)",
                    "{{gpu}} {{modelName}}": "max by (gpu, modelName)"
                    ' (DCGM_FI_DEV_GPU_TEMP{exported_namespace="lares"})',
                },
                unit="celsius",
                description="Of the machine of detect_svc, or in Kubernetes by NVIDIA's GPU operator.",
            ),
            Panel(
                "Power",
                {
                    "{{index}} {{name}}": "max by (index, name) (lares_gpu_power_watts)",
                    "Triton's {{gpu_uuid}}": "max by (gpu_uuid) (nv_gpu_power_usage)",
                },
                unit="watt",
                description=WHOSE_GPUS,
            ),
            Panel(
                "Servers that detect_svc uses",
                {"{{address}}": "min by (address) (lares_detector_server_available)"},
                kind="stat",
                description="Nothing with a detector in the service's own processes.",
            ),
        ],
        [
            Panel(
                "Triton: photos in a batch",
                {
                    "{{model}}": "sum by (model) (rate(nv_inference_count[5m]))"
                    " / sum by (model) (rate(nv_inference_exec_count[5m]))"
                },
            ),
            Panel(
                "Triton: time in its queue",
                {
                    "{{model}}": "sum by (model) (rate(nv_inference_queue_duration_us[5m]))"
                    " / sum by (model) (rate(nv_inference_request_success[5m]))"
                },
                unit="µs",
            ),
        ],
    ],
)
DASHBOARDS = (PIPELINE, LAG, EVENTS, ASSESSMENTS, GPU)


def files() -> dict[Path, str]:
    """The content of each file."""
    return {
        FOLDER / f"{each.name}.json": json.dumps(each.rendered(), indent=1, ensure_ascii=False) + "\n"
        for each in DASHBOARDS
    }


def main() -> int:
    wanted, present = files(), set(FOLDER.glob("*.json"))
    if "--check" in sys.argv[1:]:
        stale = [
            path.name for path, text in wanted.items() if path not in present or path.read_text() != text
        ]
        stale += [path.name for path in present - wanted.keys()]
        if stale:
            print(f"run `python -m deploy.dashboards`: {', '.join(sorted(stale))}", file=sys.stderr)
        return 1 if stale else 0
    for path, text in wanted.items():
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
