"""What the hardware must do, as plain programs: values in NumPy, cycles and events by its rules, tables bit by bit."""
