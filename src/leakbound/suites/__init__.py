"""What is asked: questions to forget, to retain and held out, and the secrets in their answers."""

from leakbound.suites.base import QuestionAnswer, Suite, SuiteKind

__all__ = ["QuestionAnswer", "Suite", "SuiteKind"]
