"""Every error archcalc raises on purpose; each message names the layer, the shapes and the constraint."""


class ArchcalcError(Exception):
    """Base of all errors that archcalc raises on purpose; the command line prints them and exits with status 2."""


class ShapeError(ArchcalcError):
    """A layer cannot take the shapes that flow into it."""


class SpecError(ArchcalcError):
    """A layer or network is described wrongly: an impossible hyperparameter, a name used twice or never defined."""


class UnknownNameError(ArchcalcError):
    """A name (network, column, choice, convention, counter) is not one of those there are; the message lists them."""


class InputError(ArchcalcError):
    """What the user typed or passed cannot be read: an input shape, a device, a file."""


class RoomError(InputError):
    """A device has too little memory for what is asked of it."""


class MissingPackageError(ArchcalcError):
    """An optional package is needed; the message holds the command that installs it."""


class CheckError(ArchcalcError):
    """A real module could not be built, run or counted."""


class TraceError(ArchcalcError):
    """A module could not be traced; the message names the module in which it failed."""
