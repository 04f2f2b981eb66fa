"""What several of the service's endpoints refuse in the same words."""

from relevo.chassis.problems import FieldError, Problem


def no_status() -> Problem:
    """There is no such named status in the account."""
    return Problem(404, "status_not_found", es="No existe ese estado.", en="There is no such status.")


def name_taken(*, es: str, en: str) -> Problem:
    """Another one has that name; `es` and `en` are the (masculine) nouns for what it is."""
    return Problem(
        409,
        "name_taken",
        es=f"Ya hay un {es} con ese nombre: elige otro.",
        en=f"There is a {en} with that name already: choose another.",
        errors=[FieldError("/name", es="Ya existe.", en="Exists already.")],
    )
