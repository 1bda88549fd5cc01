"""From an image's name in a manifest to files and configuration, as the kubelet would go about it.

Source: Kubernetes, "Images" (pull policies and what a container that waits for one says).
"""

from __future__ import annotations

import platform
from collections.abc import Mapping

from lateen.runtime.engine.cache import CacheError, ImageCache
from lateen.runtime.engine.commands import Engine, EngineError
from lateen.runtime.engine.config import ImageConfig
from lateen.runtime.engine.errors import ImageRefused
from lateen.runtime.engine.reference import InvalidReference, Reference, parse
from lateen.runtime.engine.unpack import HostileArchive, unpack

_ARCHITECTURES: Mapping[str, str] = {
    "x86_64": "amd64",
    "aarch64": "arm64",
    "ppc64le": "ppc64le",
    "s390x": "s390x",
    "riscv64": "riscv64",
    "armv7l": "arm",
    "i686": "386",
}


def resolve(
    engine: Engine, cache: ImageCache, image: str, policy: str
) -> tuple[ImageConfig, str, int]:
    """Configuration, directory, and the descriptor that keeps the directory there.

    ``policy`` is the manifest's ``imagePullPolicy``, empty when it has none. Raises
    `ImageRefused`.
    """
    try:
        reference = parse(image)
    except InvalidReference as error:
        raise ImageRefused("InvalidImageName", str(error)) from error
    try:
        config = _configuration(engine, reference, policy)
        _check_platform(config, image)
        root, lock = cache.hold(
            config.id,
            lambda directory: engine.export(config.id, lambda tar: unpack(tar, directory)),
        )
    except (EngineError, HostileArchive) as error:
        raise ImageRefused("ErrImagePull", f"image {image!r}: {error}") from error
    except CacheError as error:
        raise ImageRefused("ErrImagePull", str(error)) from error
    except OSError as error:
        raise ImageRefused("ErrImagePull", f"image {image!r}: unpacking: {error}") from error
    return config, root, lock


def _configuration(engine: Engine, reference: Reference, policy: str) -> ImageConfig:
    """What the engine has, fetched first where the policy says so.

    Without a policy an image that was built on this machine is taken as it is, whatever its tag:
    no registry has it.
    """
    found = engine.find(reference)
    if policy == "Always" or (not policy and reference.floating and not _is_local(found)):
        engine.pull(reference.name)
        found = engine.inspect(reference.name)
    elif found is None and policy == "Never":
        raise ImageRefused(
            "ErrImageNeverPull",
            f"{engine.name} does not have {reference.name}, and imagePullPolicy is Never",
        )
    elif found is None:
        engine.pull(reference.name)
        found = engine.inspect(reference.name)
    if found is None:
        raise EngineError(f"{engine.name} does not know it after pulling it")
    return found


def _is_local(found: ImageConfig | None) -> bool:
    return found is not None and found.local


def _check_platform(config: ImageConfig, image: str) -> None:
    own = _ARCHITECTURES.get(platform.machine(), platform.machine())
    if config.os not in ("", "linux") or config.architecture not in ("", own):
        raise ImageRefused(
            "ErrImagePull",
            f"image {image!r} is for {config.os or 'linux'}/{config.architecture}, this machine is "
            f"linux/{own}; pull it for this platform",
        )
