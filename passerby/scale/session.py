"""A connection to a Ray cluster, and its failures as sentences.

A cluster of this machine listens on the loopback address only, sends no usage statistics, and ends with the program.
"""

from __future__ import annotations

import contextlib
import ipaddress
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from passerby.errors import UserError, first_line
from passerby.threads import count_available

ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_task_oom_retries": "3",
}
"""Variables of every connection: no usage statistics, no change of the visible GPUs of tasks that ask for none, and an
end of the tasks that Ray would else start again for ever as they run out of memory."""
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}
"""Ray takes the loopback address as that of its node where this variable turns clusters off, on any system."""
TOKEN = ".ray/auth_token"
"""File of the user's token, which a cluster of `ray start` asks for; Ray sends it only where a variable says so."""
REACH_SECONDS = 5.0
LOCAL, RUNNING = "local", "auto"


def require_ray() -> Any:
    """Return the module `ray`, which is imported here only.

    Raises:
        UserError: it is not installed.

    """
    os.environ.update({name: value for name, value in ENVIRONMENT.items() if name not in os.environ})
    try:
        import ray
        import ray.exceptions
    except ImportError as error:
        raise UserError("--ray needs a package that is not installed: pip install 'passerby[ray]'") from error
    return ray


@contextlib.contextmanager
def ray_session(address: str) -> Iterator[Any]:
    """Yield the module `ray`, connected to a cluster; a connection that this program has already is used as it is.

    Args:
        address: `local` = processes on this machine that end with the block; `auto` = the cluster that runs on this
            machine; else `HOST:PORT` of a cluster that this machine belongs to.

    Raises:
        UserError: Ray is not installed, the cluster cannot be reached, or a sentence on a failure of it in the block.

    """
    ray = require_cluster(address)
    with sentences(ray):
        if ray.is_initialized():
            yield ray
            return
        with _quiet(), local_cluster(ray) if address == LOCAL else _joined(ray, address):
            yield ray


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep Ray's pages about single failures out of the output of the program within the block.

    They are printed whatever the settings of `ray.init` are; a failure that ends the work is raised in any case.
    """
    from ray._private import worker

    name = "print_to_stdstream"
    printed = getattr(worker, name, None)
    if printed is None:  # a version of Ray with another name for it, which prints
        yield
        return
    setattr(worker, name, lambda *_, **__: None)
    try:
        yield
    finally:
        setattr(worker, name, printed)


@contextlib.contextmanager
def sentences(ray: Any) -> Iterator[None]:
    """Convert failures of a cluster within the block to `UserError`."""
    try:
        yield
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, UserError):
            raise UserError(str(error.cause)) from error
        if isinstance(error.cause, ModuleNotFoundError):
            raise UserError(
                f"a worker lacks a package ({first_line(error.cause)}); install the same version of passerby and its "
                "extras on all nodes of the cluster"
            ) from error
        raise
    except ray.exceptions.OutOfMemoryError as error:
        raise UserError(f"the workers ran out of memory repeatedly{_ADVICE}") from error
    except ray.exceptions.RayActorError as error:
        why = "out of memory" if "memory" in str(error).lower() else "see the logs of the cluster"
        raise UserError(f"a worker ended repeatedly ({why}){_ADVICE}") from error
    except ray.exceptions.RayError as error:
        raise UserError(f"the Ray cluster failed ({type(error).__name__}: {first_line(error)}){_ADVICE}") from error


_ADVICE = "; parts that are written stay, and the same command makes the others"


def require_cluster(address: str) -> Any:
    """Return the module `ray` where a cluster can be used, before long work is done.

    Raises:
        UserError: Ray is not installed, or nothing answers at the address.

    """
    if _is_connected():
        return require_ray()
    if address == LOCAL or _is_loopback(_require_answer(find_running() if address == RUNNING else address)):
        os.environ.update(LOOPBACK)
    if address != LOCAL and (Path.home() / TOKEN).is_file():
        os.environ.setdefault("RAY_AUTH_MODE", "token")  # before Ray is imported
    return require_ray()


def _is_connected() -> bool:
    return "ray" in sys.modules and sys.modules["ray"] is not None and sys.modules["ray"].is_initialized()


def find_running() -> str:
    """Return the HOST:PORT of the cluster that RAY_ADDRESS names, or that `ray start` last joined on this machine.

    Ray itself would go on to look for any process of a cluster, and find that of another command's `--ray local`.

    Raises:
        UserError: there is none.

    """
    address = os.environ.get("RAY_ADDRESS", "")
    if not address:
        folder = os.environ.get("RAY_TMPDIR") or ("/tmp" if Path("/tmp").is_dir() else tempfile.gettempdir())
        with contextlib.suppress(OSError):
            address = Path(folder, "ray", "ray_current_cluster").read_text().strip()
    if not address:
        raise UserError(
            "--ray auto: no Ray cluster runs on this machine; start one by `ray start --head`, or use --ray local"
        )
    return address


def _is_loopback(host: str) -> bool:
    with contextlib.suppress(ValueError):
        return ipaddress.ip_address(host).is_loopback
    return host == "localhost"


def _require_answer(address: str) -> str:
    """Return the host of an address; refuse one that is none, or at which nothing answers."""
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit() or "/" in host:
        raise UserError(
            f"--ray {address}: give local, auto (the cluster of this machine) or HOST:PORT of its head node"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise UserError(
            f"--ray {address}: no Ray cluster can be reached there ({first_line(error)}); start one by "
            "`ray start --head`, or use --ray local"
        ) from error
    return host.strip("[]")


@contextlib.contextmanager
def local_cluster(ray: Any, *, cores: int | None = None, store_bytes: int | None = None) -> Iterator[None]:
    """Run a cluster of this machine during the block.

    Args:
        ray: the module, as `require_cluster("local")` returns it.
        cores: number of workers; None = one for each core that this process may use.
        store_bytes: memory that the workers share; None = Ray's choice, 30 % of the machine.

    Raises:
        UserError: it does not start, or would listen on the network, because Ray was imported before passerby set it
            up.

    """
    # its own folder, so that a cluster of the machine is left alone; names of sockets have 107 bytes at most
    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp" if os.access("/tmp", os.W_OK) else None)
    try:
        try:
            context = ray.init(
                address="local",
                num_cpus=cores or count_available(),
                object_store_memory=store_bytes,
                include_dashboard=False,
                log_to_driver=False,
                logging_level="CRITICAL",
                _temp_dir=folder,
            )
        except Exception as error:  # Ray raises nothing more special where a process of it does not start in time
            ray.shutdown()
            raise UserError(
                f"Ray did not start on this machine ({first_line(error)}); see whether it has free memory and is not "
                "too busy, and try again"
            ) from error
        try:
            _require_loopback(context.address_info["node_ip_address"])
            yield
        finally:
            ray.shutdown()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _require_loopback(address: str) -> None:
    if not ipaddress.ip_address(address).is_loopback:
        raise UserError(
            "Ray was imported before passerby and would listen on the network; set "
            f"{next(iter(LOOPBACK))}=0 before that, or call ray.init yourself"
        )


@contextlib.contextmanager
def _joined(ray: Any, address: str) -> Iterator[None]:
    address = find_running() if address == RUNNING else address
    try:
        ray.init(address=address, log_to_driver=False, logging_level="CRITICAL")
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UserError(f"--ray {address}: cannot join a Ray cluster ({first_line(error)})") from error
    try:
        yield
    finally:
        ray.shutdown()
