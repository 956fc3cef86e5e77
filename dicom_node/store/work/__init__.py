"""Jobs, results, deliveries, verdicts, study states, retention and audit: everything that changes the index."""
