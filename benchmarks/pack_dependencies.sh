#!/usr/bin/env bash
set -euo pipefail

usage() {
    cat <<'TEXT'
Pack the dependencies that a GPU machine without a network lacks, as one archive of about 42 MB.

  bash benchmarks/pack_dependencies.sh [ARCHIVE]     default: .gpu/site.tar.xz, in a folder that git ignores

The machine has torch, torchvision, timm's and pandas' own dependencies, scipy, statsmodels, matplotlib and pyarrow.
Packed are Ray without what a study does not use (Java, RLlib, Serve, its dashboard), Optuna, pandas, pydantic, fvcore,
plotly, timm and typer, in the versions of this environment, and faster-coco-eval.

On the machine, before benchmarks/gpu_check.sh:
  mkdir -p /tmp/site && tar -xf site.tar.xz -C /tmp/site && python3 -m compileall -q -j 0 /tmp/site
  export PYTHONPATH=/tmp/site

Environment variables: PYTHON_VERSION (3.12) and PLATFORM (x86_64-manylinux_2_28) of the machine.
TEXT
}

case ${1:-} in --help | -h) usage && exit 0 ;; esac
cd "$(dirname "$0")/.."
archive=$(realpath -m "${1:-.gpu/site.tar.xz}")
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
mkdir -p "$(dirname "$archive")"

# The version that this environment has: same=NAME==VERSION.
same() {
    uv run --no-sync -q python -c "
import sys
from importlib.metadata import version
print(*(f'{name}=={version(name)}' for name in sys.argv[1:]))" "$@"
}

# shellcheck disable=SC2046  # a list
uv pip install -q --python-version "${PYTHON_VERSION:-3.12}" --python-platform "${PLATFORM:-x86_64-manylinux_2_28}" \
    --no-deps --target "$site" \
    $(same ray optuna pandas pydantic pydantic_core plotly sqlalchemy alembic timm typer faster-coco-eval) \
    fvcore iopath yacs termcolor colorlog mako annotated-types annotated-doc typing-inspection jsonschema referencing \
    rpds-py jsonschema-specifications rich shellingham tensorboardX

cd "$site"
rm -rf ray/{jars,rllib,llm,serve,cpp} ray/dashboard/client pandas/tests plotly/labextension share bin
find . -name __pycache__ -prune -exec rm -rf {} +
find . \( -name '*.so' -o -name raylet -type f -o -name gcs_server -type f \) -exec strip --strip-debug {} + 2>/dev/null ||
    true # some are stripped
XZ_OPT='-T0 -6' tar -cJf "$archive" .
ls -l "$archive"
