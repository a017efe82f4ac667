"""A workflow in YAML, and what it is checked against."""

from __future__ import annotations

from mm_orch.workflows.yaml_workflow import Surroundings

AROUND = Surroundings(taken_names={"chat_generate"}, models={"small", "large"})
RIGHT = """
name: weigh
summary: Weighs a question from both sides.
answer: verdict
steps:
  pros:
    prompt: "For: {{ question }}"
    max_tokens: 60
    temperature: 0.2
  cons:
    prompt: "Against: {{ question }}"
    model: large
    optional: true
  verdict:
    system: "Go by this: {{ context }}"
    prompt: |
      {{ question }}
      {{ pros }}
      {% if cons %}But {{ cons }}{% endif %}
"""


def weigh(steps: str, answer: str = "a") -> str:
    return f"name: weigh\nsummary: Weighs.\nanswer: {answer}\nsteps:\n{steps}\n"
