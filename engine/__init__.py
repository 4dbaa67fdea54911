"""How anything is trained, evaluated and exported."""
