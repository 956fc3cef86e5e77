"""Evaluation of the models: cases with known truth, measurements, and tables and pictures for the model cards."""
