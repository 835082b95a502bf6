#!/bin/sh
# What the image holds, installed into ROOT/app: `install.sh ROOT`; in the image itself ROOT is /, elsewhere a directory
# that stands for it. Needs a Python 3.11 with pip and venv, and the package index; no compiler. The result holds no pip.
set -eu
umask 022
root=$(cd "${1:?the directory that is to hold app}" && pwd)
app=${root%/}/app
python=${PYTHON:-python3}
source=$(cd "$(dirname "$0")/../.." && pwd)
here=$source/k8s/image
export SOURCE_DATE_EPOCH=1577836800 PYTHONHASHSEED=0 PYTHONDONTWRITEBYTECODE=1 PYTHONNOUSERSITE=1
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1 PIP_ROOT_USER_ACTION=ignore PIP_QUIET=1

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

into() { # into PYTHON COMMAND...: the builder's pip at work for another environment
  target=$1
  shift
  "$python" -m pip --python "$target" "$@"
}

"$python" -m venv --without-pip "$app"
into "$app/bin/python" install --no-compile --require-hashes --only-binary :all: -r "$here/runtime.lock"

# The sources without the local mesh: its database, certificate authorities and people are for a desk, not for a cluster.
mkdir -p "$work/source/protos/gen" "$work/source/pki" "$work/wheels"
cp -R "$source/pyproject.toml" "$source/README.md" "$source/LICENSE" "$source/services" "$work/source"
rm -rf "$work/source/services/local"
cp -R "$source/protos/pyproject.toml" "$source/protos/README.md" "$source/protos/npd_client" "$work/source/protos"
cp -R "$source/protos/gen/npd" "$work/source/protos/gen"
cp -R "$source/pki/pyproject.toml" "$source/pki/README.md" "$source/pki/npd_pki" "$source/pki/ceremonies" "$work/source/pki"

"$python" -m venv --without-pip "$work/build"
into "$work/build/bin/python" install --require-hashes --only-binary :all: -r "$here/build.lock"
into "$work/build/bin/python" wheel --no-deps --no-build-isolation --no-index --wheel-dir "$work/wheels" \
  "$work/source/protos" "$work/source/pki" "$work/source"
into "$app/bin/python" install --no-compile --no-deps --no-index --find-links "$work/wheels" npd-client npd-pki npd-mesh
into "$app/bin/python" check

"$app/bin/python" "$here/settle.py" "$app"
find "$app" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
