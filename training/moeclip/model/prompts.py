"""What is said of a class name: prompts for its normal and its anomalous state."""

from typing import NamedTuple

from training.moeclip.model.config import Prompts


class PromptSet(NamedTuple):
    """Prompts with {} where the class name goes."""

    normal: tuple[str, ...]
    abnormal: tuple[str, ...]

    def fill(self, class_name: str) -> "PromptSet":
        """The prompts of one class; braces in its name are left as they are."""
        return PromptSet(
            tuple(prompt.replace("{}", class_name) for prompt in self.normal),
            tuple(prompt.replace("{}", class_name) for prompt in self.abnormal),
        )


def _combined(templates: tuple[str, ...], normal: tuple[str, ...], abnormal: tuple[str, ...]) -> PromptSet:
    return PromptSet(
        tuple(template.replace("{}", state) for state in normal for template in templates),
        tuple(template.replace("{}", state) for state in abnormal for template in templates),
    )


# `paper`: Table 4 of the MoECLIP paper. `released`: the list that the released adapters were trained with.
PROMPTS: dict[Prompts, PromptSet] = {
    "paper": _combined(
        ("{}", "a photo of a {}"),
        ("{}", "the {}", "a {}"),
        ("{} with damage", "{} with defect", "{} with flaw", "damaged {}", "broken {}"),
    ),
    "released": _combined(
        ("{}.", "a photo of {}."),
        ("{}", "a {}", "the {}"),
        ("a damaged {}", "a broken {}", "a {} with flaw", "a {} with defect", "a {} with damage"),
    ),
}
