"""The detector and the reasoner of a fault run, where they are not the stub and the rules: a real Triton with
the tests' tiny model, and a real llama.cpp with a small language model."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from deploy.embedded.llama import LlamaModel
from tests.faults.parts import LlamaPart, TritonPart, running_llama_part
from tests.support.llama import NAME, smollm2_file
from tests.support.triton import Triton, add_graph

# What the tiny model finds in the tests' photos: it is untrained.
TRITON_SETTINGS = {
    "LARES_WATCH_CLASSES": "person,cat,bird,cow,couch,train,handbag",
    "LARES_WATCH_THRESHOLD": "0.4",
    # Shorter than a pause, so that one goes beyond it.
    "LARES_DETECT_SECONDS": "3",
}
LLAMA_SETTINGS = {"LARES_REASON_PROMPT": "v1-short", "LARES_REASON_SECONDS": "270"}
CONTEXT = 2048


@dataclass(frozen=True)
class Models:
    triton: TritonPart | None = None
    llama: LlamaPart | None = None

    @property
    def model_of_reasoner(self) -> str:
        """The name of the language model, or empty."""
        return NAME if self.llama else ""

    @property
    def addresses(self) -> dict[str, tuple[str, int]]:
        """Where each of them listens."""
        found = {}
        if self.triton:
            found["triton"] = ("127.0.0.1", self.triton.server.port)
        if self.llama:
            found["llama"] = ("127.0.0.1", self.llama.port)
        return found

    def settings(self, addresses: Mapping[str, str]) -> dict[str, str]:
        """The settings of a process that reaches them at these addresses."""
        found: dict[str, str] = {}
        if self.triton:
            found |= TRITON_SETTINGS
            if "triton" in addresses:
                found["LARES_DETECTOR_URL"] = f"triton://{addresses['triton']}/rtdetrv2-tiny"
        if self.llama:
            found |= LLAMA_SETTINGS
            if "llama" in addresses:
                found["LARES_REASONER_URL"] = self.llama.url_at(addresses["llama"])
        return found

    def settings_without_links(self) -> dict[str, str]:
        return self.settings({name: f"{host}:{port}" for name, (host, port) in self.addresses.items()})


@asynccontextmanager
async def running_models(folder: Path, detector: str, reasoner: str, port: int) -> AsyncIterator[Models]:
    """`port` is Triton's."""
    async with AsyncExitStack() as stack:
        triton = llama = None
        if detector == "triton":
            folder.mkdir(parents=True, exist_ok=True)
            add_graph(folder / "models")
            triton = TritonPart(Triton(folder / "models", folder, port=port))
            triton.server.start()
            stack.callback(triton.server.kill)
            await triton.server.ready()
        if reasoner == "llama":
            model = LlamaModel(smollm2_file(), CONTEXT, parallel=1)
            llama = await stack.enter_async_context(running_llama_part(folder / "llama", model))
        yield Models(triton, llama)
