"""From floating-point weights to what an artifact codes: factors of the sensitivity, steps, rounding."""
