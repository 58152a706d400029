#!/usr/bin/env bash
# Writes the Python code of the contracts into the folder $1, with the tools of .venv.
set -euo pipefail
out=$(realpath -m "$1")
cd "$(dirname "$0")"
bin=$PWD/../.venv/bin
rm -rf "$out" && mkdir -p "$out"
mapfile -t messages < <(find lares -name '*.proto' | sort)
mapfile -t services < <(find lares -name '*_service.proto' | sort)
protoc() { PATH="$bin:$PATH" "$bin/python" -m grpc_tools.protoc -I. -Ithird_party "$@"; }
protoc --python_out="$out" --mypy_out="quiet:$out" "${messages[@]}" buf/validate/validate.proto
protoc --grpc_python_out="$out" --mypy_grpc_out="quiet:$out" "${services[@]}"
