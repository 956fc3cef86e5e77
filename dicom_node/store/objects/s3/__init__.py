"""Objects in an S3-compatible store, with a spool and a cache on local disk (docs/decisions/0057)."""
