"""From masks to what can be said about a face."""
