"""Prompts of many kinds for comparing texts: short and long, plain, code, several scripts.

Texts are compared exactly, so none of these may meet a near tie within 64 greedy tokens: where the
two likeliest logits differ by less than fp32 rounds (8e-6 was seen for a question about planets),
the order of additions decides. The least difference among these is 1e-3.
"""

from __future__ import annotations

_TOPICS = [
    "What is machine learning?",
    "Explain how a bicycle stays upright.",
    "Write a short poem about the sea.",
    "Give me a recipe for pancakes.",
    "Why is the sky blue?",
    "List three uses of a paper clip.",
    "Summarise the plot of Romeo and Juliet.",
    "How do vaccines work?",
    "What should I pack for a week in the mountains?",
    "Describe a cat to someone who has never seen one.",
    "What is 12345 plus 678?",
    "Translate 'good morning' into French.",
    "Write a Python function that reverses a list.",
    "What does HTTP 404 mean?",
    "How can I sleep better?",
    "What is the difference between a virus and a bacterium?",
    "Tell me about the history of chess.",
    "Give advice to someone starting a new job.",
    "Explain recursion to a child.",
    "What is the capital of Japan, and what is it known for?",
    "Write a haiku about rain.",
    "Compare tea and coffee.",
    "How does a refrigerator work?",
    "Give three tips for learning a language.",
    "What happens when water boils?",
    "Draft a polite reply to a late invoice.",
    "Who was Marie Curie?",
    "Convert 30 degrees Celsius to Fahrenheit.",
    "Describe the taste of a lemon.",
    "Invent a name for a bakery and a slogan for it.",
    "What are the parts of a plant?",
]
_MULTI_BYTE = [
    "Was ist künstliche Intelligenz? Erkläre es kurz für Schüler.",
    "¿Qué es el aprendizaje automático? Explícalo con un ejemplo sencillo.",
    "Qu'est-ce qu'une forêt tropicale ? Décris-la en détail.",
    "機械学習とは何ですか？簡単に説明してください。",
    "什么是机器学习？请用简单的话解释。",
    "Что такое машинное обучение? Объясни простыми словами.",
    "ما هو التعلم الآلي؟",
    "Tell me what these mean: 😀 🚀 🎉 👩‍💻",
    "Ωμέγα and ∑ and √2 ≈ 1.41421: what are these symbols?",
    "naïve café façade — “quotes” and … ellipses: correct this sentence.",
]
_RAW = [
    "def fibonacci(n):\n    ",
    "Once upon a time, in a village by the river,",
    "The three laws of motion are:\n1.",
    "SELECT name, COUNT(*) FROM",
    '{"name": "Ada", "age": 36, "skills": [',
    "# Notes on gardening\n\n- Water in the morning\n-",
    "A B C D E F G",
    "1, 1, 2, 3, 5, 8, 13,",
    "Dear Sir or Madam,\n\nI am writing to",
    "import numpy as np\n\nx = np.",
]


def chat_prompts() -> list[str]:
    """Forty-one questions of one turn."""
    return [*_TOPICS, *_MULTI_BYTE]


def raw_prompts() -> list[str]:
    """Ten texts to be continued."""
    return list(_RAW)


def long_prompts() -> list[str]:
    """Ten questions of over 500 tokens each."""
    sentences = [
        f"In {1900 + 7 * index} the town counted {137 * index % 9973} people, {index} mills and a"
        f" bridge over the river {name}, which was rebuilt {index % 5} times."
        for index, name in enumerate(["Aare", "Dee", "Elbe", "Loire", "Ebro", "Oder", "Po"] * 6, 1)
    ]
    return [
        f"Notes on a town. {' '.join(sentences[shift : shift + 24])} Question {shift}: {ask}"
        for shift, ask in enumerate(_TOPICS[:10])
    ]
