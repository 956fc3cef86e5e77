"""AnatoMask: hide blocks of the body, let a teacher find the hard ones, and reconstruct them."""

from pretraining.anatomask.method import AnatoMask, Options, build

__all__ = ["AnatoMask", "Options", "build"]
