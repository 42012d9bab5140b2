#!/bin/bash
# Collects what a search with Ray Tune needs on a machine that has torch for its GPU, but no network:
#
#   bash benchmarks/gpu/bundle_ray.sh DIR [--python 3.12]
#
# DIR/1 and DIR/2, at most 60 MiB each, can be carried one after the other; each holds half of Ray's
# wheel. On the other machine, once for each:
#
#   bash run_ray.sh FOLDER [ARGUMENTS OF tuner.run]
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$here/bundling.sh"

packages=(alembic annotated-types attrs click cloudpickle colorlog eagerpy filelock foolbox gitdb
  gitpython greenlet jinja2 jsonschema jsonschema-specifications mako markupsafe msgpack optuna
  packaging pydantic pydantic-core referencing rpds-py safetensors smmap sqlalchemy tensorboardx tqdm
  typing-extensions typing-inspection)

needs_data=no
read_arguments "$@"
start_bundle "$dir"
for part in 1 2; do
  mkdir "$dir/$part"
  cp "$here/run_ray.sh" "$dir/$part"
done
add_source "$dir/1"
add_wheels "$dir/2" "${packages[@]}"

add_wheels "$dir/ray" ray
wheel=$(cd "$dir/ray/wheels" && echo ray-*.whl)
split --number=2 --numeric-suffixes=1 --suffix-length=1 "$dir/ray/wheels/$wheel" "$dir/$wheel.part"
(cd "$dir/ray/wheels" && sha256sum "$wheel") > "$dir/1/ray.sha256"
mv "$dir/$wheel.part1" "$dir/1"
mv "$dir/$wheel.part2" "$dir/2"
rm -r "$dir/ray"
check_size "$dir/1"
check_size "$dir/2"
