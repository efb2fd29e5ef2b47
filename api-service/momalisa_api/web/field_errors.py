"""What is wrong with the fields of a request, all of it at once."""

from momalisa_api.problems import Invalid

# Pairs of a field's name and what is wrong with it, as the end of a sentence that begins with the name.
Errors = list[tuple[str, str]]


def refuse(errors: Errors) -> None:
    """Raise Invalid, which names every invalid field, if there is one."""
    if errors:
        sentence = "; ".join(f"{field} {detail}" for field, detail in errors)
        raise Invalid(f"{sentence}.", [{"field": field, "detail": detail} for field, detail in errors])
