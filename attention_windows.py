"""Deprecated: import `LocalAttention` from `kernels`. The first tutorial named this module."""
import warnings

from kernels import LocalAttention  # noqa: F401

warnings.warn('attention_windows is deprecated: from kernels import LocalAttention', DeprecationWarning, stacklevel=2)
