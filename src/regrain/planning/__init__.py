"""From measurements to recipes: candidates for each layer, the best of them for a price, the search for a budget."""
