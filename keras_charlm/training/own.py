"""What a user gives as an object instead of a setting: an optimizer, a schedule, a network."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import keras

from keras_charlm.config import FitConfig
from keras_charlm.config_base import OWN
from keras_charlm.errors import BundleError, OptionError

Rates: TypeAlias = keras.optimizers.schedules.LearningRateSchedule

# Callbacks that set the learning rate; they are obeyed with `schedule` none.
_SETTERS = (keras.callbacks.LearningRateScheduler, keras.callbacks.ReduceLROnPlateau)
# Settings that an optimizer of the user's has itself.
_OPTIMIZERS = ("learning_rate", "schedule", "warmup", "clip_norm", "weight_decay")


@dataclass(frozen=True)
class Own:
    """The user's own objects; None where `fit` makes its own.

    Args:
        optimizer: Each training uses a copy of it.
        rates: The learning rate by batch, for an optimizer of `fit`'s.
        network: The network; see `network.template`.
    """

    optimizer: keras.optimizers.Optimizer | None = None
    rates: Rates | None = None
    network: keras.Sequential | None = None

    def serialized(self) -> str:
        """JSON from which `restored` makes the objects; empty if there are none."""
        objects = {k: keras.saving.serialize_keras_object(v) for k, v in vars(self).items() if v}
        return json.dumps(objects, sort_keys=True) if objects else ""

    def described(self, fit: FitConfig) -> FitConfig:
        """The settings with the names of the objects, and the first learning rate."""
        rates, optimizer = self.rates, self.copied()
        changes: dict[str, Any] = {}
        if optimizer:
            rates = _rates(optimizer)
            changes |= {
                "optimizer": f"{OWN}{type(optimizer).__name__}",
                "schedule": "none",
                "learning_rate": None if rates else float(optimizer.learning_rate),
            }
        if rates:  # many start at zero
            rate = max(float(rates(step)) for step in (0, 1, 10, 100, 1000))
            changes |= {"schedule": f"{OWN}{type(rates).__name__}", "learning_rate": rate}
        return replace(fit, **changes)

    def copied(self) -> keras.optimizers.Optimizer | None:
        """A copy of the optimizer, without its state.

        Raises:
            OptionError: Its `get_config` does not describe it.
        """
        if self.optimizer is None:
            return None
        try:
            return type(self.optimizer).from_config(self.optimizer.get_config())
        except Exception as error:  # code of the user's may raise anything
            raise OptionError(
                f"optimizer is a {type(self.optimizer).__name__} that cannot be copied ({error}); "
                "register classes of your own with keras.saving.register_keras_serializable, and "
                "let get_config return the arguments of __init__."
            ) from error


def separate(settings: Mapping[str, Any]) -> tuple[dict[str, Any], Own]:
    """Take the objects out of the settings of `fit`.

    Args:
        settings: Settings; `optimizer`, `learning_rate` and `schedule` may be objects of Keras's.

    Raises:
        OptionError: A setting conflicts with an object.
    """
    plain = dict(settings)
    optimizer = rates = None
    if isinstance(plain.get("optimizer"), keras.optimizers.Optimizer):
        optimizer = plain.pop("optimizer")
        if both := [name for name in _OPTIMIZERS if plain.get(name, "none") not in (None, "none")]:
            raise OptionError(
                f"{both[0]} was given, and an optimizer that has its own; give the optimizer what "
                f"it needs, and leave {both[0]} out."
            )
    for name in ("learning_rate", "schedule"):
        if not isinstance(plain.get(name), keras.optimizers.schedules.LearningRateSchedule):
            continue
        rates = plain.pop(name)
        for other in ("learning_rate", "schedule", "warmup"):
            if plain.get(other) is not None:
                raise OptionError(
                    f"{other} was given, and a {type(rates).__name__} that sets the learning rate; "
                    f"leave {other} out."
                )
    return plain, Own(optimizer, rates)


def obey(callbacks: list[keras.callbacks.Callback], fit: FitConfig, given: bool) -> FitConfig:
    """Leave the learning rate to callbacks that set it.

    Args:
        callbacks: The user's callbacks.
        fit: The settings.
        given: Whether the user has given `schedule`.

    Returns:
        The settings, with schedule 'none' if there is such a callback.

    Raises:
        OptionError: The user has asked for another schedule, too.
    """
    setter = next((type(c).__name__ for c in callbacks if isinstance(c, _SETTERS)), None)
    if setter is None or fit.schedule == "none":
        return fit
    if given:
        raise OptionError(
            f"schedule is {fit.schedule!r}, and {setter} sets the learning rate as well; leave one "
            "of the two out."
        )
    return replace(fit, schedule="none")


def check_names(fit: FitConfig) -> None:
    """Raise OptionError for settings of a model trained with an object that was not given."""
    for name in ("optimizer", "schedule"):
        if (value := getattr(fit, name)).startswith(OWN):
            raise OptionError(
                f"{name} is {value!r}, an object that a model was trained with; give the object."
            )


def restored(text: str, given: Own) -> Own:
    """The objects of a training that is resumed.

    Args:
        text: What `Own.serialized` returned.
        given: Objects that the user gives again; they are preferred.

    Raises:
        BundleError: An object is needed that only the user can give, or `text` is damaged.
        OptionError: An object was given that the training does not have.
    """
    values: dict[str, Any] = {}
    name = ""
    try:
        saved = json.loads(text) if text else {}
        for name, value in saved.items():
            if getattr(given, name) is not None:
                continue
            if not all(map(_keras_has, _modules(value))):  # others could run any code
                raise TypeError(f"{value.get('class_name')} is not Keras's")
            values[name] = keras.saving.deserialize_keras_object(value)
    except Exception as error:  # a damaged file can make Keras raise anything
        raise BundleError(
            f"The training's own {'learning rate schedule' if name == 'rates' else name} cannot be "
            f"made from its checkpoint ({error}); give it to keras_charlm.resume again."
        ) from error
    if given.optimizer is not None and "optimizer" not in saved:
        raise OptionError(
            "optimizer was given, and the training began with one of fit's; leave it out."
        )
    return replace(given, **values)


def _rates(optimizer: keras.optimizers.Optimizer) -> Rates | None:
    """The schedule that an optimizer was made with."""
    rate = optimizer.get_config()["learning_rate"]
    return keras.optimizers.schedules.deserialize(rate) if isinstance(rate, Mapping) else None


def _keras_has(module: str) -> bool:
    return module.partition(".")[0] in ("builtins", "keras", "keras_charlm")


def _modules(value: Any) -> Iterator[str]:
    """The modules that a serialized object names, at any depth."""
    if isinstance(value, Mapping):
        if value.get("module"):  # none for a class that the user has registered
            yield str(value["module"])
        for part in value.values():
            yield from _modules(part)
    elif isinstance(value, list):
        for part in value:
            yield from _modules(part)
