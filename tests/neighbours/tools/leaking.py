"""A metric of deepeval that asks no model: an answer fails when the expected output stands in it."""

from deepeval.metrics import BaseMetric


class Leaks(BaseMetric):
    threshold = 0.5
    __name__ = "Leaks"

    def measure(self, case, *_, **__):
        self.score = float(case.expected_output.lower() not in case.actual_output.lower())
        self.success = self.score >= self.threshold
        return self.score

    async def a_measure(self, case, *_, **__):
        return self.measure(case)

    def is_successful(self):
        return self.success
