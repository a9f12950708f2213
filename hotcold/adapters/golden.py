"""Requests with known answers, sent through the edge: to one slot directly, or as any consumer would."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
from numpy.typing import NDArray

from hotcold.domain.smoke import Answer, Refusal

_SLOT_HEADER = "x-hotcold-variant"


@dataclass(frozen=True, eq=False)
class GoldenSample:
    """Rows with the scores that the package has to give.

    Args:
        matrix: float32, shape (n, features).
        expected: shape (n,).
    """

    matrix: NDArray[np.float32]
    expected: NDArray[np.floating]


def read_golden_sample(source_dir: Path) -> GoldenSample:
    """The reference sample inside a package's source folder."""
    reference = source_dir / "reference"
    return GoldenSample(
        np.load(reference / "sample.npy", allow_pickle=False), np.load(reference / "expected.npy", allow_pickle=False)
    )


class GoldenClient:
    """Sends golden rows as binary tensors of the Open Inference Protocol.

    Args:
        edge_url: address of the edge.
        model: registered model name.
        slot: slot to ask directly; empty: whoever the edge chooses.
        timeout_s: longest wait for one answer.
    """

    def __init__(self, edge_url: str, model: str, slot: str = "", timeout_s: float = 3.0) -> None:
        headers = {_SLOT_HEADER: slot} if slot else {}
        self._client = httpx.Client(base_url=edge_url, timeout=timeout_s, headers=headers, trust_env=False)
        self._model = model

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def ask(self, sample: GoldenSample, first: int, count: int) -> Answer:
        """Send rows `first` to `first + count` and compare the scores."""
        rows = np.ascontiguousarray(sample.matrix[first : first + count], dtype="<f4")
        started = time.perf_counter()
        try:
            answer = self._post(rows)
        except httpx.HTTPError as error:
            return Answer(status=0, detail=type(error).__name__)
        elapsed_ms = (time.perf_counter() - started) * 1e3
        digest = answer.headers.get("x-package-digest", "")
        if answer.status_code != 200:
            return Answer(answer.status_code, digest, elapsed_ms=elapsed_ms, detail=answer.text[:200])
        scores = np.array(answer.json()["outputs"][0]["data"], dtype=np.float64).reshape(-1)
        expected = sample.expected[first : first + count]
        difference = float(np.abs(scores - expected).max()) if scores.shape == expected.shape else None
        return Answer(200, digest, difference, elapsed_ms)

    def _post(self, rows: NDArray[np.float32]) -> httpx.Response:
        tensor = {
            "name": "features",
            "datatype": "FP32",
            "shape": list(rows.shape),
            "parameters": {"binary_data_size": rows.nbytes},
        }
        header = json.dumps({"inputs": [tensor]}).encode()
        return self._client.post(
            f"/v2/models/{self._model}/infer",
            content=header + rows.tobytes(),
            headers={"content-type": "application/octet-stream", "inference-header-content-length": str(len(header))},
        )

    def ask_wrongly(self) -> list[Refusal]:
        """Send requests that every scorer has to refuse."""
        predict = f"/models/{self._model}/predict"
        wrong = {
            "a body that is not JSON": (predict, b"{"),
            "an empty body": (predict, b""),
            "a record without features": (predict, b'{"records":[{}]}'),
            "a tensor of the wrong shape": (
                f"/v2/models/{self._model}/infer",
                b'{"inputs":[{"name":"features","datatype":"FP32","shape":[1,1],"data":[1,2]}]}',
            ),
        }
        return [Refusal(what, self._status(path, body)) for what, (path, body) in wrong.items()]

    def _status(self, path: str, body: bytes) -> int:
        try:
            return self._client.post(path, content=body, headers={"content-type": "application/json"}).status_code
        except httpx.HTTPError:
            return 0
