#!/bin/sh
# base.sh: makes the image lares-base, for builds that cannot reach an image registry: Debian 12 with Python 3.11
# from Debian's archive. Needs mmdebstrap and buildah; prints the image's name.
set -eu
archive=${DEBIAN_ARCHIVE:-deb.debian.org}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT

mmdebstrap --quiet --variant=apt --include=python3.11,python3.11-venv,ca-certificates,dash \
  --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/locale/*' \
  bookworm "$folder/root.tar" \
  "deb http://$archive/debian bookworm main" \
  "deb http://$archive/debian bookworm-updates main" \
  "deb http://$archive/debian-security bookworm-security main" >&2
container=$(buildah from scratch)
buildah add --quiet "$container" "$folder/root.tar" / >&2
buildah commit --quiet --rm "$container" lares-base >&2
echo localhost/lares-base
