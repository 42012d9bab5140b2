#!/bin/bash
# Collects what benchmarks.gpu and the tests of tests/cuda_tests need on a machine that has torch for
# its GPU, but no network:
#
#   bash benchmarks/gpu/bundle.sh DIR --data FOLDER [--python 3.12]
#
# DIR, at most 60 MiB, gets the source, wheels of what an environment of torch usually lacks, and
# CIFAR-10 and the ImageNet sample at 32x32 as Parquet. FOLDER holds cifar10/train.parquet,
# cifar10/test.parquet and imagenet_sample/train.parquet. On the other machine:
#
#   bash DIR/run.sh ARGUMENTS OF benchmarks.gpu
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/bundling.sh"

packages=(annotated-types eagerpy foolbox gitdb gitpython iniconfig packaging pluggy pydantic
  pydantic-core pygments pytest safetensors smmap typing-extensions typing-inspection)

read_arguments "$@"
start_bundle "$dir"
add_source "$dir"
add_wheels "$dir" "${packages[@]}"
add_data "$dir"
cp "$here/run.sh" "$dir"
check_size "$dir"
