"""What may happen between epochs: one small base class, and what is built on it."""

from nnfast.callbacks.base import Callback, CallbackList
from nnfast.callbacks.checkpoint import ModelCheckpoint
from nnfast.callbacks.early_stopping import EarlyStopping
from nnfast.callbacks.logging import CSVLogger, TensorBoard
from nnfast.callbacks.monitoring import Monitoring
from nnfast.callbacks.progress import ProgressBar
from nnfast.callbacks.rates import LearningRateSchedule, ReduceLROnPlateau
from nnfast.callbacks.stopping import TerminateOnNaN

__all__ = [
    "CSVLogger",
    "Callback",
    "CallbackList",
    "EarlyStopping",
    "LearningRateSchedule",
    "ModelCheckpoint",
    "Monitoring",
    "ProgressBar",
    "ReduceLROnPlateau",
    "TensorBoard",
    "TerminateOnNaN",
]
