"""A demonstration of the node on three synthetic series; nothing is downloaded and they show no real person."""
