#!/bin/bash
# Installs a bundle of bundle.sh into a folder of its own, and starts benchmarks.gpu:
#
#   bash DIR/run.sh ARGUMENTS
#   bash DIR/run.sh -m pytest -m cuda {source}/tests/cuda_tests -p no:cacheprovider
#
# With -m as first argument it starts another module. {source} and {data} in arguments stand for the
# bundle's folders. SIMREG_SITE is the folder to install into (default: one in the temporary folder,
# named after the bundle), PYTHON the interpreter (default: python3). Nothing is downloaded.
set -euo pipefail
bundle=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
site=${SIMREG_SITE:-${TMPDIR:-/tmp}/simreg-$(echo "$bundle" | cksum | cut -d' ' -f1)}

if [[ ! -e $site/complete ]]; then
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade \
    --target "$site" "$bundle"/wheels/*.whl
  touch "$site/complete"
fi
export PYTHONPATH=$bundle/source:$site${PYTHONPATH:+:$PYTHONPATH}
export SIMREG_DATA=${SIMREG_DATA:-$site/data} PYTHONUNBUFFERED=1

[[ ${1:-} == -m ]] || set -- -m benchmarks.gpu "$@"
arguments=()
for word in "$@"; do
  word=${word//\{source\}/$bundle/source}
  arguments+=("${word//\{data\}/$bundle/data}")
done
exec "$python" "${arguments[@]}"
