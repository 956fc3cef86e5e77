"""Turn the cleared studies of a node into a dataset with both masks; an export like any other, and recorded as one."""
