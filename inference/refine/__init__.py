"""Masks made exact on the source grid: the network proposes a place, stored values decide where it ends."""
