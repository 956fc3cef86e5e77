"""The node shown at work on three synthetic series; nothing is downloaded and no person is in them."""
