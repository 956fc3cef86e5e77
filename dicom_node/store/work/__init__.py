"""Jobs, results, deliveries, verdicts, study states, retention and audit: all that changes what the index holds."""
