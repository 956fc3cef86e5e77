"""Patients, studies, series and instances in the index, and the queries on them."""
