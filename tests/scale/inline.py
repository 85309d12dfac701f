"""A stand-in for the module `ray` that runs each task at once in this process; references are the results."""


class InlineTask:
    def __init__(self, function):
        self.remote = function


class InlineRay:
    def remote(self, **_):
        return InlineTask

    def put(self, value):
        return value

    def get(self, reference):
        return reference

    def cluster_resources(self):
        return {"CPU": 2.0}

    def wait(self, references, *, num_returns):
        return references[:num_returns], references[num_returns:]
