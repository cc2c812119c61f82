#!/usr/bin/env bash
# Renders each overlay and checks every resource against Kubernetes' own schema, strictly: an unknown field fails.
# Needs kubectl (for kustomize; no cluster) and Python; the schema is in a package that is installed once, into target/.
set -euo pipefail
cd "$(dirname "$0")/kubernetes"
if ! command -v kubectl >/dev/null; then
    printf '\n!! the Kubernetes manifests were NOT checked: there is no kubectl\n\n' >&2
    exit 0
fi
python="$PWD/../../target/python-kubernetes/bin/python"
[ -x "$python" ] || python3 -m venv "${python%/bin/python}"
"$python" -m pip install -q --disable-pip-version-check kubernetes-validate==1.37.0
for overlay in base overlays/*; do
    kubectl kustomize "$overlay" | "$python" check.py "$overlay"
done
