"""The engine: text to vectors. It knows models and numbers, and nothing of vendors, JSON or HTTP."""
