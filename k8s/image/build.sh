#!/bin/sh
# Builds the image: `build.sh BASE IMAGE`. Refuses a base that is not pinned, and says how one is found out.
set -eu
base=$1 image=$2 docker=${DOCKER:-docker}
case $base in
*@sha256:*) ;;
*)
  cat >&2 <<END
The image needs a base that is pinned by its digest, so that the same command gives the same image next year:
  make image PYTHON_IMAGE=python:3.11-slim-bookworm@sha256:...
Take the digest from your registry, after your scanner has passed it: docker buildx imagetools inspect python:3.11-slim-bookworm
END
  exit 2
  ;;
esac
if ! command -v "$docker" >/dev/null; then
  echo "There is no $docker here. Another builder is named by DOCKER=podman; 'make image-directory' runs the same steps without one." >&2
  exit 2
fi
cd "$(dirname "$0")/../.."
revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
exec "$docker" build --file k8s/Dockerfile --tag "$image" --build-arg "PYTHON_IMAGE=$base" \
  --build-arg "VERSION=${image##*:}" --build-arg "REVISION=$revision" \
  ${PIP_INDEX_URL:+--build-arg "PIP_INDEX_URL=$PIP_INDEX_URL"} .
