"""What may happen between epochs: one small base class, and what is built on it."""

from nnfast.callbacks.base import Callback, CallbackList
from nnfast.callbacks.early_stopping import EarlyStopping

__all__ = ["Callback", "CallbackList", "EarlyStopping"]
