"""Which devices of this machine a training runs on."""

from __future__ import annotations

import contextlib
import functools

import tensorflow as tf

from keras_charlm import cpu
from keras_charlm.display import quiet
from keras_charlm.errors import OptionError


def strategy(spec: str = "auto") -> tf.distribute.Strategy:
    """The distribution strategy for the requested devices.

    TensorFlow initializes its devices once per process: if it has done so already, only those
    devices are available.

    Args:
        spec: `FitConfig.devices`.

    Returns:
        MirroredStrategy over several devices; for one device TensorFlow's default or
        OneDeviceStrategy.

    Raises:
        OptionError: The machine, or the already initialized TensorFlow, has no such devices.
    """
    with quiet():
        gpus, cpus = _chosen(spec)
        _show(gpus, cpus)
        names = _names(gpus, cpus)
    if len(names) > 1:
        # On the CPU TensorFlow would use its collectives, whose groups outlive a strategy: a later
        # strategy of another size in this process would fail.
        sums = None if gpus else tf.distribute.ReductionToOneDevice()
        return tf.distribute.MirroredStrategy(names, cross_device_ops=sums)
    if names[0].endswith(":0"):
        return tf.distribute.get_strategy()
    return tf.distribute.OneDeviceStrategy(names[0])


@functools.cache  # TensorFlow can join its workers only once per process
def join(spec: str = "auto") -> tf.distribute.Strategy:
    """The strategy of one of several workers, as set by TF_CONFIG, over its own devices.

    Args:
        spec: `FitConfig.devices`.

    Returns:
        MultiWorkerMirroredStrategy.

    Raises:
        OptionError: As for `strategy`, or several devices were requested on a CPU.
    """
    gpus, cpus = _chosen(spec)
    if cpus > 1:
        raise OptionError(
            f"devices is {spec}, but a worker without GPUs trains on one device; "
            "start more workers instead."
        )
    _show(gpus, cpus)
    return tf.distribute.MultiWorkerMirroredStrategy()


def _chosen(spec: str) -> tuple[list, int]:
    """The requested GPUs, and the number of CPU devices to use if there are none."""
    gpus = tf.config.list_physical_devices("GPU")
    count = int(spec) if spec.isdigit() else 1
    if spec == "cpu" or (spec.isdigit() and not gpus):
        return [], count
    if spec == "auto":
        return tf.config.get_visible_devices("GPU"), 1
    numbers = range(count) if spec.isdigit() else sorted({int(s[4:]) for s in spec.split(",")})
    if numbers[-1] >= len(gpus):
        raise OptionError(
            f"devices is {spec}, and TensorFlow finds {len(gpus)} GPU{'s' * (len(gpus) != 1)} on "
            "this machine; name those it has, or auto."
        )
    return [gpus[i] for i in numbers], 1


def _show(gpus: list, cpus: int) -> None:
    """Make only these devices visible to TensorFlow, unless it is already initialized."""
    with contextlib.suppress(RuntimeError):
        tf.config.set_visible_devices(gpus, "GPU")
        if cpus > 1:
            cpu = tf.config.list_physical_devices("CPU")[0]
            tf.config.set_logical_device_configuration(
                cpu, [tf.config.LogicalDeviceConfiguration()] * cpus
            )


def _names(gpus: list, cpus: int) -> list[str]:
    """TensorFlow's names for these devices, such as GPU:0; initializes it."""
    has_cpus, has_gpus = (
        [device.name.removeprefix("/device:") for device in tf.config.list_logical_devices(kind)]
        for kind in ("CPU", "GPU")
    )
    visible = tf.config.get_visible_devices("GPU")
    if set(gpus) <= set(visible) and (gpus or not visible) and cpus <= len(has_cpus):
        return [has_gpus[visible.index(gpu)] for gpu in gpus] or has_cpus[:cpus]
    raise OptionError(
        f"TensorFlow has already started in this process with {', '.join(has_cpus + has_gpus)}, "
        "and cannot divide the machine again; ask for other devices in a new process."
    )


def describe(count: int) -> str:
    """The number and kind of devices in use, such as '2 x GPU'."""
    return f"{count} x {'GPU' if tf.config.get_visible_devices('GPU') else 'CPU'}"


def prefer_bfloat16() -> bool:
    """Whether the device multiplies bfloat16 matrices faster than those of float32.

    Measured with 512 units, bfloat16 trains at 2.6 times the speed of float32 on Intel's matrix
    units (AMX), at 1.8 times with AMD's vector instructions (avx512_bf16), and at 0.6 times with
    the same instructions on Intel.
    """
    gpus = tf.config.get_visible_devices("GPU")
    if gpus:
        details = tf.config.experimental.get_device_details(gpus[0])
        return details.get("compute_capability", (0, 0)) >= (8, 0)
    flags = cpu.flags()
    return "amx_bf16" in flags or {"AuthenticAMD", "avx512_bf16"} <= flags
