"""STOW-RS: instances come in over HTTP (PS3.18 10.5)."""
