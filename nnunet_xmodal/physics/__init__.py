"""How tissue changes the field it lies in, and back: dipole, units, simulation, inversion; no networks."""
