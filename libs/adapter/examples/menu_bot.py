"""A small bot: a menu with the opening hours and a person. Run it beside Relevo, one for each inbox.

BOT_SERVERS=nats://localhost:4222 BOT_CREDENTIALS=menu.creds BOT_URL=http://localhost:8080/api/v1 BOT_KEY=bk_… python menu_bot.py
"""

import asyncio
import os

from relevo.adapter.bot import Bot, Talk
from relevo.contracts.conversation import BotEvent

MENU = {
    "es": "Hola{name}. Responde 1 para nuestro horario o 2 para hablar con una persona.",
    "en": "Hello{name}. Answer 1 for our opening hours, or 2 to talk to a person.",
}
HOURS = {
    "es": "Abrimos de lunes a viernes, de 9:00 a 18:00.",
    "en": "We are open from Monday to Friday, 9:00 to 18:00.",
}
PERSON = {"es": ("2", "persona", "agente", "humano"), "en": ("2", "person", "agent", "human")}
HOUR = {"es": ("1", "horario", "abren", "abierto"), "en": ("1", "hours", "open")}
TRIES = 3


async def answer(event: BotEvent, talk: Talk) -> None:
    """One event, one answer."""
    if event.kind == "over":
        return
    language = "en" if (event.language or "es").lower().startswith("en") else "es"
    said = event.text.lower()
    if any(word in said for word in PERSON[language]):
        await talk.hand_over("customer_asked", f"«{event.text}»")
    elif any(word in said for word in HOUR[language]):
        await talk.say(HOURS[language])
    elif sum(not one["from_customer"] for one in await talk.before()) >= TRIES:
        await talk.hand_over("cannot_help", f"«{event.text}»")
    else:
        await talk.say(MENU[language].format(name=f", {event.contact_name}" if event.contact_name else ""))


async def main() -> None:
    """Until it is stopped."""
    bot = Bot(os.environ["BOT_SERVERS"], os.environ["BOT_CREDENTIALS"], os.environ["BOT_URL"], os.environ["BOT_KEY"])
    bot.on_event(answer)
    async with bot:
        await bot.wait()


if __name__ == "__main__":
    asyncio.run(main())
