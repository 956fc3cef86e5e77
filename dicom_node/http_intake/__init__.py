"""Instances that come in over HTTP, by STOW-RS or by the page of uploads, on their way into the inbox."""
