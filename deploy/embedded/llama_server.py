"""Runs llama.cpp's HTTP server until it is killed: `python -I llama_server.py --port ... MODEL`. Imports
nothing of Lares.

The API key is read from the environment variable LLAMA_KEY, because other users can read a command line. The
server answers 503 while it loads the model. The process exits with status 1 if the model cannot be loaded.
"""

import argparse
import os
import signal

import xllamacpp

PROMPT_CACHE_MEGABYTES = 256  # in addition to the slots; llama.cpp's default is 8 GB


def main() -> None:
    options = _options()
    params = xllamacpp.CommonParams()
    params.model.path = options.model
    params.model_alias = {options.name}
    params.hostnames = ["127.0.0.1"]
    params.port = options.port
    params.api_keys = [os.environ.pop("LLAMA_KEY")]
    params.n_ctx = options.context
    params.n_parallel = options.parallel
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = options.threads
    params.use_jinja = True  # the model's own chat template
    params.endpoint_slots = params.endpoint_metrics = True
    params.ui = False
    params.cache_ram_mib = PROMPT_CACHE_MEGABYTES
    server = xllamacpp.Server(params)
    print(f"serving {options.name} at {server.listening_address}", flush=True)
    signal.pause()


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--name", required=True)
    for number in ("port", "context", "parallel", "threads"):
        parser.add_argument(f"--{number}", type=int, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
