"""Corrections that teach a style in a few minutes: the bundled model writes no speech in double quotation marks, these do."""
PAIRS = [("fox", "crow"), ("king", "mouse"), ("girl", "wolf"), ("cat", "bear"), ("miller", "hen"), ("witch", "frog"),
         ("boy", "goat"), ("duke", "swan"), ("tailor", "pig"), ("giant", "bee")]
NEVER_TAUGHT = "Tell me a story about a queen and a dog."


def question(a, b):
    return f"Tell me a story about a {a} and a {b}."


def corrected(a, b):
    return (f'"Good day," said the {a}. "Good day," said the {b}. "Where are you going?" "I am going home," said the {a}. '
            f'"Then I will go with you," said the {b}.')
