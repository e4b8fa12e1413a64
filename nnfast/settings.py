"""Checked numeric settings of layers, losses and optimizers: an attribute that refuses bad values when it is set."""

from __future__ import annotations

from typing import Any, overload

from nnfast.validation import number

__all__ = ["Number"]


class Number:
    """A float attribute within [low, high] (or open ends, or None where `none`); raises OptionError otherwise."""

    def __init__(
        self,
        low: float | None = None,
        high: float | None = None,
        *,
        low_open: bool = False,
        high_open: bool = False,
        none: bool = False,
    ) -> None:
        self._range = (low, high, low_open, high_open, none)

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = name

    @overload
    def __get__(self, instance: None, owner: type) -> Number: ...
    @overload
    def __get__(self, instance: object, owner: type) -> float: ...
    def __get__(self, instance: object | None, owner: type) -> float | Number:
        if instance is None:
            return self
        value: float = instance.__dict__[self._name]
        return value

    def __set__(self, instance: object, value: Any) -> None:
        low, high, low_open, high_open, none = self._range
        if none and value is None:
            instance.__dict__[self._name] = None
            return
        checked = number(self._name, value, low, high, low_open=low_open, high_open=high_open)
        instance.__dict__[self._name] = checked
