"""The accelerator: its sizes, its programs, what they must give, how long they take, and the hardware itself."""
