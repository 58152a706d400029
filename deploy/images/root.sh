#!/bin/sh
# root.sh IMAGE: makes the root file system of an image in /image. Runs in the builder stage of the Dockerfile.
set -eu
image=$1
tools=/build/tools/bin
packages=/app/venv/lib/python3.11/site-packages

python3.11 -m venv --without-pip /app/venv
$tools/uv pip sync --quiet --python /app/venv/bin/python --link-mode copy --require-hashes "deploy/images/locks/$image.lock"
$tools/uv pip install --quiet --python /app/venv/bin/python --link-mode copy --no-deps /build/dist/*.whl
rm -f /app/venv/.lock  # of uv, and everybody may write to it
PYTHONPATH=/build/source:$packages $tools/python -m deploy.images.fetch "$image" /app/venv/share/lares
/build/sbom/bin/cyclonedx-py environment --output-reproducible --of JSON -o /build/python.json /app/venv/bin/python
python3.11 -I -S deploy/images/assemble.py "$image" /image
PYTHONPATH=/build/source /build/sbom/bin/python -m deploy.images.inventory "$image" /build/python.json /image
rm -rf /app
