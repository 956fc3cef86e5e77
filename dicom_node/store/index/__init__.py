"""What the index knows of patients, studies, series and instances, and the queries on it."""
