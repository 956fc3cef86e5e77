"""Decide when series are complete and which are processed, run the models, and deliver the results."""
