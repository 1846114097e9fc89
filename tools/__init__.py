"""Programs that make what the package carries. Neither the server nor its tests need them."""
