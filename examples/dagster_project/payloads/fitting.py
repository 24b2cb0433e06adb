"""A line through points by gradient descent: stands for real training."""

Point = tuple[float, float]


def fit(points: list[Point], learning_rate: float, epochs: int = 200) -> tuple[float, float]:
    """Slope and intercept."""
    slope = intercept = 0.0
    for _ in range(epochs):
        errors = [(slope * x + intercept - y, x) for x, y in points]
        slope -= learning_rate * sum(error * x for error, x in errors) / len(points)
        intercept -= learning_rate * sum(error for error, _ in errors) / len(points)
    return slope, intercept


def loss(points: list[Point], line: tuple[float, float]) -> float:
    """Mean squared error."""
    slope, intercept = line
    return sum((slope * x + intercept - y) ** 2 for x, y in points) / len(points)
