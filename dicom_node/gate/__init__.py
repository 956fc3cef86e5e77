"""Decide whether a study may leave, from the standing of its series and people's decisions."""
