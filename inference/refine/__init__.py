"""Refine masks on the source grid: the network proposes an area, stored values decide where its edge is."""
