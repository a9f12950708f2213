"""The recipe of a training as a pydantic model: the Prefect UI shows it as a form."""

from datetime import date
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from hotcold.domain.dataset import Windows, plan_windows
from hotcold.domain.flights import FIRST_DAY, LAST_DAY

Flavor = Literal["xgboost", "logistic_regression", "mlp", "onnx"]


class TrainingRecipe(BaseModel):
    """What to train and on which days. Hyperparameters of other kinds of model than the chosen one have no effect."""

    model_config = ConfigDict(extra="forbid", frozen=True, title="Recipe")

    flavor: Flavor = Field(
        "xgboost", description="Kind of model; `onnx` is the small neural network, released as an ONNX graph."
    )
    train_from: date = Field(date(2013, 1, 1), description=f"First day of training; the data begins on {FIRST_DAY}.")
    train_until: date = Field(date(2013, 8, 31), description=f"Last day of training; the data ends on {LAST_DAY}.")
    evaluate_weeks: int = Field(4, ge=1, le=52, description="Weeks right after the training on which the model is evaluated.")
    set_candidate_alias: bool = Field(
        True, description="Give the new version the alias `candidate`, so that a release finds it."
    )

    trees: int = Field(300, ge=1, le=5000, description="xgboost: number of trees.")
    depth: int = Field(8, ge=1, le=16, description="xgboost: largest depth of a tree.")
    learning_rate: float = Field(0.05, gt=0, le=1, description="xgboost: share of each tree's correction that is taken.")
    row_share: float = Field(0.8, gt=0, le=1, description="xgboost: share of the rows that each tree sees.")
    feature_share: float = Field(0.6, gt=0, le=1, description="xgboost: share of the features that each tree sees.")
    min_child_weight: float = Field(20.0, ge=0, description="xgboost: least sum of instance weight in a leaf.")
    regularisation: float = Field(
        1.0, gt=0, le=1e6, description="logistic_regression: inverse strength of the regularisation; smaller is stronger."
    )
    hidden_units: list[int] = Field(
        [32, 16], min_length=1, max_length=4, description="mlp and onnx: width of each hidden layer, 1 to 512 each."
    )
    epochs: int = Field(8, ge=1, le=500, description="mlp and onnx: passes over the data.")
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Of all random choices but in logistic_regression, which makes none.")

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not all(1 <= width <= 512 for width in self.hidden_units):
            raise ValueError(f"hidden_units is {self.hidden_units}; each layer needs 1 to 512 units")
        return self

    def windows(self) -> Windows:
        """Days of training and of evaluation.

        Raises:
            TrainingError: a window is empty or outside the data.
        """
        return plan_windows(self.train_from, self.train_until, self.evaluate_weeks, FIRST_DAY, LAST_DAY)

    def hyperparameters(self) -> dict[str, Any]:
        """Those of the chosen kind of model."""
        names = {
            "xgboost": ("trees", "depth", "learning_rate", "row_share", "feature_share", "min_child_weight", "seed"),
            "logistic_regression": ("regularisation",),
            "mlp": ("hidden_units", "epochs", "seed"),
            "onnx": ("hidden_units", "epochs", "seed"),
        }
        return self.model_dump(include=set(names[self.flavor]))
