#!/bin/bash
# Keeps its part of a bundle of bundle_ray.sh in FOLDER. When both parts are there, it installs them
# and runs a search of four trials that share a GPU:
#
#   bash run_ray.sh FOLDER [ARGUMENTS OF tuner.run]
#
# Arguments are added to those of the search; without a GPU: --gpus-per-trial 0. PYTHON is the
# interpreter (default: python3). Nothing is downloaded.
set -euo pipefail
part=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-python3}
mkdir -p "${1:?the folder to keep the parts in is missing}"
folder=$(cd "$1" && pwd)
shift

cp -r "$part"/. "$folder"
parts=("$folder"/ray-*.whl.part?)
if ((${#parts[@]} < 2)); then
  echo "1 of 2 parts is in $folder; run the script of the other one with the same folder"
  exit 0
fi

site=$folder/site
if [[ ! -e $site/complete ]]; then
  wheel=${parts[0]%.part?}
  cat "${parts[@]}" > "$wheel"
  (cd "$folder" && sha256sum --check --quiet ray.sha256)
  "$python" -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade \
    --target "$site" "$folder"/wheels/*.whl "$wheel"
  rm "$wheel"
  touch "$site/complete"
fi
export PYTHONPATH=$folder/source:$site${PYTHONPATH:+:$PYTHONPATH}
export SIMREG_DATA=$folder/cache PYTHONUNBUFFERED=1

exec "$python" -m tuner.run --space "$folder/source/search_spaces/smoke.yaml" --num-trials 4 \
  --output "$folder/results" --name "search-$(date +%H%M%S)" \
  --gpus-per-trial 0.25 --cpus-per-trial 1 --max-concurrent 4 "$@"
