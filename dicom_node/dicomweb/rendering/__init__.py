"""Pictures of stored images: ``rendered`` and ``thumbnail`` (PS3.18 10.4.1.1.3 and .6, 8.3.5)."""
