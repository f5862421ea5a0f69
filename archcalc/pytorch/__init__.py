"""All that needs torch: tracing, building, counting with other tools, checking and timing real modules."""
