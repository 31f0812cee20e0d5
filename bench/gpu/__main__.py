import sys

from gattn.bench.gpu.cli import main

sys.exit(main())
