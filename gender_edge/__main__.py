"""`python -m gender_edge`: the same as the command `gender-edge`."""

from .cli import main

raise SystemExit(main())
