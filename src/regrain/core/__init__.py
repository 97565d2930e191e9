"""Values that every other layer speaks: no I/O, no kernels, no framework."""
