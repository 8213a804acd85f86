"""Registrations, classical ones and networks, on the same grids and from the same starts; and what measures them.

Each is a `RegistrationMethod`, called as `(fixed, moving, spacing, base) → Registered`:

    fixed           (D, H, W)
    moving          (D', H', W') around the same centre, as it is: it is resampled once, by what the method finds. It
                    reaches beyond the grid of the fixed image, so that no start brings in what was cut, `surroundings`
    spacing         mm along D, H, W
    base            (4, 4), the start: moving → fixed, in mm about the centre of the grid
    Registered      the matrix of the same kind, and how many seconds it took

A network reads the moving image warped by base and its result is M(output)·base, see `by_network`; the classical ones
begin at base. The errors of both are `geometry.surface.sre` of the matrix, see `validation`.
"""
