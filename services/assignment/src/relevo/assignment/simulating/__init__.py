"""`relevo simulate`: a past period's assignments, decided on again, as they were and under a draft."""
