"""Pictures of meshes, flows, sensitivities and designs. Drawn from arrays; nothing here solves anything."""
