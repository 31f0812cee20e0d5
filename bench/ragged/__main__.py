import sys

from gattn.bench.ragged.cli import main

sys.exit(main())
