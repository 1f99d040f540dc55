"""An instance of a broker that is not there."""

from deferrable import Deferrable
from deferrable.backend import DocketsBackendFactory

stats = Deferrable(DocketsBackendFactory("redis://127.0.0.1:1/0").create_backend_for_group("x"))
