"""How anything is drawn: canvas, shapes, textures, variation, defects."""
