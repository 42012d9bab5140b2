#!/usr/bin/env bash
# Installs a requirement (. or .[dev]) into .venv with the versions that constraints.txt pins.
#   bash install.sh PYTHON REQUIREMENT
set -euo pipefail
python=$1 requirement=$2 log=.venv/install.log

[[ -x .venv/bin/python ]] || "$python" -m venv .venv
# Python compiles a module when it is first imported, which most of them never are.
installer=(.venv/bin/python -m pip install --no-compile)
if command -v uv >/dev/null; then
  installer=(uv pip install --python .venv/bin/python)
  # uv ignores pip's settings, and might take another build of torch from PyPI.
  if [[ ! $(env) =~ UV_[A-Z_]*(INDEX|LINKS) &&
    $(.venv/bin/python -m pip config list) =~ (index-url|find-links)= ]]; then
    echo "pip has package indexes that uv does not know: installing with pip"
    installer=(.venv/bin/python -m pip install --no-compile)
  fi
fi

echo "installing $requirement into .venv:"
"${installer[@]}" --constraint constraints.txt --editable "$requirement" 2>&1 | tee "$log" | awk '
  /^(Collecting|Downloading) / { sub(/[^[:alnum:]_.-].*/, "", $2); printf "%s ", $2; fflush() }
  /^Installing collected/ { printf "\nunpacking %d packages", NF - 3; fflush() }
  END { print "" }
' || { tail -n 20 "$log" >&2; exit 1; }
