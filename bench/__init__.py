"""Programs that measure: they print ratios, with the peer measured in the same run. `python -m bench` runs them all."""
