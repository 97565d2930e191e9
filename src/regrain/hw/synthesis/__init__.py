"""What components cost as gates: areas, delays and energies by open tools and cell libraries."""
