"""torchvision, imported without torch's compiler. Other modules import torchvision from here."""

from camcli.speed import deferred_import

with deferred_import("torch._dynamo.utils", "is_compile_supported"):
    from torchvision import __version__ as version
    from torchvision import models, ops

__all__ = ["models", "ops", "version"]
