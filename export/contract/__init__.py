"""The bundle format: all that passes from export to service. Imports neither torch nor our other packages."""
