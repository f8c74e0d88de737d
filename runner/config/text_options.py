"""Options that say how rows become texts for a language model."""

from dataclasses import dataclass

from runner.config.option import ANSWER, option


@dataclass(frozen=True, kw_only=True)
class TextOptions:
    """Options that say how rows become texts for a language model."""

    prompt: str | None = option(
        None,
        "model",
        "text for the model, with columns by name in braces, such as 'Summarize: {text}'",
        metavar="TEMPLATE",
        affects=ANSWER,
    )
    system: str | None = option(
        None,
        "model",
        "system message before each text, by the chat template of the model's tokenizer",
        metavar="TEXT",
        affects=ANSWER,
    )
    messages: str | None = option(
        None,
        "model",
        "column with the messages of a conversation, a list of objects with role and content, for the chat template",
        metavar="NAME",
        affects=ANSWER,
    )
