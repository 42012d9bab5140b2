from __future__ import annotations

from tests.ray_sessions import local_ray, ray_folder

__all__ = ["local_ray", "ray_folder"]
