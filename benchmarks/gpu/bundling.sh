# Functions of bundle.sh and bundle_ray.sh.
root=$(cd "$here/../.." && pwd)
limit_mib=60
data=
needs_data=yes
version=3.12

fail() {
  echo "$(basename "$0"): $*" >&2
  exit 2
}

# Sets dir, data and version.
read_arguments() {
  dir=
  while (($#)); do
    case $1 in
      --data | --python)
        (($# > 1)) || fail "$1 needs a value"
        if [[ $1 == --data ]]; then data=$2; else version=$2; fi
        shift
        ;;
      -*) fail "unknown option $1; allowed: --data, --python" ;;
      *)
        [[ -z $dir ]] || fail "expected one folder, found $dir and $1"
        dir=$1
        ;;
    esac
    shift
  done
  [[ -n $dir ]] || fail "the folder to make is missing"
  [[ $needs_data == yes ]] || return 0
  for name in cifar10/train cifar10/test imagenet_sample/train; do
    [[ -f $data/$name.parquet ]] || fail "--data: $data/$name.parquet does not exist"
  done
}

start_bundle() {
  [[ ! -e $1 || -z $(ls -A "$1") ]] || fail "$1 is not empty"
  mkdir -p "$1"
}

# The files of the checkout as they are, committed or not.
add_source() {
  mkdir -p "$1/source"
  git -C "$root" ls-files -z --cached --others --exclude-standard -- \
    benchmarks examples pyproject.toml search_spaces simreg_core tests tuner |
    tar -C "$root" --null --files-from=- --ignore-failed-read -c 2> /dev/null | tar -x -C "$1/source"
  [[ -f $1/source/simreg_core/__init__.py ]] || fail "the source could not be copied"
}

# Wheels of the versions that constraints.txt pins, for x86-64 Linux.
add_wheels() {
  local target=$1/wheels platforms=()
  shift
  for glibc in 2_28 2_27 2_24 2_17 2_12 2_5; do
    platforms+=(--platform "manylinux_${glibc}_x86_64")
  done
  python3 -m pip download --quiet --no-deps --only-binary=:all: --implementation cp \
    --python-version "$version" "${platforms[@]}" --platform manylinux2014_x86_64 \
    --platform manylinux1_x86_64 --constraint "$root/constraints.txt" --dest "$target" "$@"
}

add_data() {
  mkdir -p "$1/data/cifar10" "$1/data/imagenet_sample"
  cp "$data"/cifar10/{train,test}.parquet "$1/data/cifar10"
  (cd "$root" && python3 - "$data/imagenet_sample" "$1/data/imagenet_sample") << 'PYTHON'
import io
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from simreg_core.data.registry import load_dataset

source, target = (Path(word) for word in sys.argv[1:])
pool = load_dataset(f"parquet:{source}", color=True, size=32, key="--data")
rows = []
for image in pool.images:
    stream = io.BytesIO()
    Image.fromarray(image.permute(1, 2, 0).numpy()).save(stream, "PNG", optimize=True)
    rows.append({"bytes": stream.getvalue(), "path": None})
kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
columns = {"image": pa.array(rows, kind)}
if pool.labels is not None:
    columns["label"] = pa.array(pool.labels.numpy())
pq.write_table(pa.table(columns), target / "train.parquet")
PYTHON
}

check_size() {
  local mib
  mib=$(du -sm --apparent-size "$1" | cut -f1)
  ((mib <= limit_mib)) || fail "$1 has $mib MiB; at most $limit_mib are allowed"
  echo "$1: $mib MiB"
}
