"""`lares model export` in the environment that has torch. Run by `make test-export`, not by `make test`.

Exports the tests' tiny model again, and the whole architecture of RT-DETRv2-R18 with random weights.
"""

import json
import os
import shutil
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from google.protobuf import text_format
from numpy.typing import NDArray
from tritonclient.grpc import model_config_pb2 as triton

from deploy.model.agreement import ModelOutput, compare
from mesh.labels import COCO_LABELS

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-export" / "bin" / "python"
FIXTURE = ROOT / "tests" / "fixtures" / "rtdetrv2-tiny.onnx"
SECONDS = 840

pytestmark = pytest.mark.timeout(900)

# The sizes of the published r18, untrained.
R18 = """
import sys
from pathlib import Path
from transformers import RTDetrResNetConfig, RTDetrV2Config
from deploy.model.tiny import write_model
names = dict(enumerate({labels}))
backbone = RTDetrResNetConfig(
    hidden_sizes=[64, 128, 256, 512], depths=[2, 2, 2, 2], layer_type="basic", out_indices=[2, 3, 4]
)
config = RTDetrV2Config(
    backbone_config=backbone, encoder_in_channels=[128, 256, 512], hidden_expansion=0.5, decoder_layers=3,
    id2label=names,
)
write_model(config, 640, 1, Path(sys.argv[1]))
"""
# A reference that differs a little from the graph's output.
WRONG = """
import sys
from dataclasses import replace
from deploy.model import export
true = export.reference
export.reference = lambda *all: [replace(one, boxes=one.boxes + 0.01) for one in true(*all)]
export.main(sys.argv[1:])
"""
# Prints the types of the nodes that read the images.
READERS = """
import sys
import onnx
graph = onnx.load(sys.argv[1]).graph
print(*{node.op_type for node in graph.node if "images" in node.input})
"""


class FakeHub(ThreadingHTTPServer):
    """The part of a model hub that one download needs, because these tests cannot reach a real one."""

    COMMIT = "c0ffee" * 6 + "cafe"

    def __init__(self, model: str, folder: Path) -> None:
        super().__init__(("127.0.0.1", 0), FakeHubHandler)
        self.model, self.folder = model, folder
        self.fetched: list[str] = []


class FakeHubHandler(BaseHTTPRequestHandler):
    server: FakeHub

    def do_GET(self) -> None:
        path = self.path.partition("?")[0]
        if path.startswith(f"/api/models/{self.server.model}/tree/"):
            listed = [
                {"type": "file", "path": file.name, "size": file.stat().st_size, "oid": file.name}
                for file in self.server.folder.iterdir()
            ]
            return self._respond(json.dumps(listed).encode(), "application/json", "list")
        if path.startswith(f"/api/models/{self.server.model}/"):
            model = {"id": self.server.model, "sha": FakeHub.COMMIT, "siblings": []}
            return self._respond(json.dumps(model).encode(), "application/json", "model")
        file = self.server.folder / path.rpartition("/")[2]
        if not path.startswith(f"/{self.server.model}/resolve/") or not file.is_file():
            return self.send_error(404)
        if self.command == "GET":
            self.server.fetched.append(file.name)
        return self._respond(file.read_bytes(), "application/octet-stream", file.name)

    do_HEAD = do_GET

    def _respond(self, body: bytes, kind: str, tag: str) -> None:
        self.send_response(200)
        headers = {"Content-Type": kind, "Content-Length": str(len(body)), "ETag": f'"{tag}"'}
        for name, value in (headers | {"X-Repo-Commit": FakeHub.COMMIT}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


def torch(*arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs the Python of the export environment."""
    command = [str(PYTHON), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False, cwd=ROOT)


def export(source: object, out: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "deploy", "model", "export", "--from", str(source), "--out", str(out)]
    environment = {**os.environ, **variables}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=SECONDS, check=False, cwd=ROOT, env=environment
    )


def outputs_of(graph: Path, images: NDArray[np.uint8]) -> list[ModelOutput]:
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    arrays = session.run(["scores", "labels", "boxes"], {"images": images})
    return [ModelOutput(*one) for one in zip(*arrays, strict=True)]


def scenes(count: int, side: int) -> NDArray[np.uint8]:
    coarse = np.random.RandomState(3).randint(0, 256, (count, 10, 10, 3)).astype(np.uint8)
    return coarse.repeat(side // 10, axis=1).repeat(side // 10, axis=2)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in the format of the hub."""
    folder = tmp_path_factory.mktemp("hub") / "rtdetrv2-tiny"
    done = torch("-m", "deploy.model.tiny", folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def repository(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("triton") / "models"
    done = export(tiny, out)
    assert done.returncode == 0, done.stderr
    assert "against transformers: 180 findings matched, 0 without a counterpart" in done.stdout
    return out


def test_the_committed_model_can_be_exported_again(repository: Path) -> None:
    made = repository / "rtdetrv2-tiny" / "1" / "model.onnx"
    images = scenes(8, 160)
    agreement = compare(outputs_of(made, images), outputs_of(FIXTURE, images))
    assert agreement.holds, str(agreement)
    metadata = [
        onnxruntime.InferenceSession(str(graph)).get_modelmeta().custom_metadata_map
        for graph in (made, FIXTURE)
    ]
    assert metadata[0] == metadata[1]
    identical = made.read_bytes() == FIXTURE.read_bytes()
    print(f"exported again: {agreement}; {'the same bytes' if identical else 'other bytes'}")


def test_tensorrt_can_read_the_input(repository: Path) -> None:
    """TensorRT can only cast uint8. If another node read the images, it could not run the start of the
    graph."""
    done = torch("-c", READERS, repository / "rtdetrv2-tiny" / "1" / "model.onnx")
    assert (done.returncode, done.stdout.split()) == (0, ["Cast"])


def test_an_export_never_overwrites(tiny: Path, repository: Path) -> None:
    before = (repository / "README.md").read_text()
    done = export(tiny, repository)
    assert done.returncode == 1
    assert "exists already" in done.stderr
    assert (repository / "README.md").read_text() == before


def test_a_graph_with_another_output_is_not_written(tiny: Path, tmp_path: Path) -> None:
    done = torch("-c", WRONG, "--from", tiny, "--out", tmp_path / "models")
    assert done.returncode == 1
    assert "box 1.0e-02 of the side (allowed 2e-03)" in done.stdout
    assert "nothing was written" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_missing_and_broken_weights_are_refused(tiny: Path, tmp_path: Path) -> None:
    """transformers initialises missing weights at random: the model would seem to work, and find nonsense."""
    incomplete = shutil.copytree(tiny, tmp_path / "incomplete")
    done = torch(
        "-c",
        "import sys; from safetensors.torch import load_file, save_file; w = load_file(sys.argv[1]); "
        "del w['model.enc_output.0.weight']; save_file(w, sys.argv[1], {'format': 'pt'})",
        incomplete / "model.safetensors",
    )
    assert done.returncode == 0, done.stderr
    done = export(incomplete, tmp_path / "models")
    assert done.returncode == 1
    assert "1 weights are missing or of another shape: model.enc_output.0.weight" in done.stderr

    broken = shutil.copytree(tiny, tmp_path / "broken")
    (broken / "model.safetensors").write_bytes((tiny / "model.safetensors").read_bytes()[:100_000])
    done = export(broken, tmp_path / "models")
    assert done.returncode == 1
    assert "transformers cannot read it" in done.stderr
    assert not (tmp_path / "models").exists()


def test_a_model_is_fetched_from_the_hub_by_its_id(tiny: Path, repository: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny, tmp_path / "hub")
    (folder / "pytorch_model.bin").write_bytes(b"could run code")
    with FakeHub("lares/rtdetrv2-tiny", folder) as hub:
        threading.Thread(target=hub.serve_forever, daemon=True).start()
        try:
            address = f"http://127.0.0.1:{hub.server_address[1]}"
            home = {"HF_ENDPOINT": address, "HF_HOME": str(tmp_path / "home")}
            done = export("lares/rtdetrv2-tiny", tmp_path / "models", **home)
            missing = export("lares/other", tmp_path / "others", **home)
        finally:
            hub.shutdown()
    assert done.returncode == 0, done.stderr
    assert sorted(hub.fetched) == ["config.json", "model.safetensors", "preprocessor_config.json"]
    graph = Path("rtdetrv2-tiny", "1", "model.onnx")
    assert (tmp_path / "models" / graph).read_bytes() == (repository / graph).read_bytes()
    assert missing.returncode == 1
    (line,) = missing.stderr.splitlines()
    assert line.startswith("lares model export: lares/other: no such folder, and the hub does not provide it")


@pytest.mark.parametrize("source", ["no/such-model", "/no/such/folder"])
def test_an_unknown_source_is_reported_in_one_line(source: str, tmp_path: Path) -> None:
    done = export(source, tmp_path / "models")
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"lares model export: {source}: no such folder")
    assert list(tmp_path.iterdir()) == []


def test_the_whole_architecture(tmp_path: Path) -> None:
    folder, out = tmp_path / "checkpoint", tmp_path / "models"
    done = torch("-c", R18.format(labels=list(COCO_LABELS)), folder)
    assert done.returncode == 0, done.stderr
    done = export(folder, out)
    assert done.returncode == 0, done.stderr
    assert "0 without a counterpart" in done.stdout
    model = out / "rtdetrv2-r18"
    configuration = text_format.Parse((model / "config.pbtxt").read_text(), triton.ModelConfig())
    assert list(configuration.input[0].dims) == [640, 640, 3]
    assert (model / "labels.txt").read_text().splitlines() == list(COCO_LABELS)
    images = scenes(3, 640)
    alone = [output for image in images for output in outputs_of(model / "1" / "model.onnx", image[None])]
    agreement = compare(outputs_of(model / "1" / "model.onnx", images), alone)
    assert agreement.holds, str(agreement)
    assert agreement.matched >= 890
