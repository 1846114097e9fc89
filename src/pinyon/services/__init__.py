"""The core verbs. They know nothing of a vendor and nothing of HTTP."""
