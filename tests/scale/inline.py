"""A stand-in for the module `ray` that runs each task at once in this process; references are the results."""

from types import SimpleNamespace


class InlineTaskError(Exception):
    """A fault in a task, as `ray.exceptions.RayTaskError` wraps it."""

    def __init__(self, cause):
        super().__init__(str(cause))
        self.cause = cause


class InlineTask:
    def __init__(self, function, fault):
        self.function, self.fault = function, fault

    def remote(self, *values, **options):
        try:
            if self.fault is not None:
                raise self.fault
            return self.function(*values, **options)
        except Exception as error:
            raise InlineTaskError(error) from error


class InlineRay:
    """Attributes: `fault` = what every task raises."""

    exceptions = SimpleNamespace(RayTaskError=InlineTaskError)

    def __init__(self, fault=None):
        self.fault = fault

    def remote(self, **_):
        return lambda function: InlineTask(function, self.fault)

    def put(self, value):
        return value

    def get(self, reference):
        return reference

    def cluster_resources(self):
        return {"CPU": 2.0}

    def wait(self, references, *, num_returns):
        return references[:num_returns], references[num_returns:]
