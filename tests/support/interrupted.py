"""A model that is interrupted at one of its calls."""


def interrupt(monkeypatch, box, name, stop):
    """The method raises KeyboardInterrupt at its call number ``stop``, if any; a list that has one entry for a call."""
    calls, real = [], getattr(box, name)

    def some(*args):
        calls.append(args)
        if len(calls) == stop:
            raise KeyboardInterrupt
        return real(*args)

    monkeypatch.setattr(box, name, some)
    return calls
