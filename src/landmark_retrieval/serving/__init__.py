"""The HTTP service that finds new photos, and its page."""
