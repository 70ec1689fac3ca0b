"""Functions on tensors that have a plain form and a fast one."""

from tsattn.ops.mvpa import MVPAMaps, mvpa_attention

__all__ = ["MVPAMaps", "mvpa_attention"]
