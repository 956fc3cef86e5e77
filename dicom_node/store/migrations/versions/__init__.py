"""One module a schema revision, numbered."""
