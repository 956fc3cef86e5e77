"""Migrations of the index, shipped with the package and run when a store is opened."""
