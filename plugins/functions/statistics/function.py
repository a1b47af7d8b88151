"""The functions of this plugin."""

from collections.abc import Mapping

from plugins.api.function import Function

from .line import linear_fit
from .series import rolling_mean, statistics

FUNCTIONS: Mapping[str, Function] = {
    "statistics": statistics,
    "rolling-mean": rolling_mean,
    "linear-fit": linear_fit,
}
