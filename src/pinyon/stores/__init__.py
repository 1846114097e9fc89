"""Where vectors live. A store knows records, filters and scores, and nothing of a vendor, of HTTP or of models."""
