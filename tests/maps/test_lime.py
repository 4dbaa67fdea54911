import numpy as np
import pytest
import torch
from lime.lime_image import LimeImageExplainer
from torch import Tensor

from maps.kinds import Explained
from maps.lime import Perturbations, explain, explanation, superpixels
from models.cnn6 import CNN6
from models.heads import make_head

CUTS, SIZE, CLASSES = (2, 5), 32, 5


@pytest.fixture
def network() -> Explained:
    backbone = CNN6(0.0625)
    return Explained(backbone, CUTS, [make_head("author", (16, 8, 8), CLASSES, convs=0).eval() for _ in CUTS])


def test_equal_to_lime_for_every_classifier(network: Explained) -> None:
    image = torch.rand(3, SIZE, SIZE)
    pixels = image.permute(1, 2, 0).numpy()
    segments = np.arange(SIZE * SIZE).reshape(SIZE, SIZE) // (SIZE * 4) * 4 + np.arange(SIZE)[None] // 8

    def classify(images: Tensor) -> list[Tensor]:
        return [own.softmax(1) for own in network(images)]

    ours = explain(classify, image, 2, Perturbations.draw(segments, 200, seed=3))
    for stage in range(len(CUTS)):

        def single(batch: np.ndarray, stage: int = stage) -> np.ndarray:
            with torch.inference_mode():
                tensor = torch.from_numpy(np.asarray(batch)).permute(0, 3, 1, 2).float()
                return classify(tensor)[stage].double().numpy()

        found = LimeImageExplainer(random_state=3).explain_instance(
            pixels, single, labels=(2,), top_labels=None, num_samples=200, batch_size=64,
            segmentation_fn=lambda _: segments, random_seed=0,
        )  # fmt: skip
        theirs = dict(found.local_exp[2])
        np.testing.assert_allclose(ours[stage], [theirs[n] for n in range(segments.max() + 1)], atol=1e-8)
        _, mask = found.get_image_and_mask(2, positive_only=True, num_features=5)
        assert np.array_equal(explanation(ours[stage], segments), mask.astype(bool))


def test_finds_the_superpixel_that_matters() -> None:
    segments = superpixels(np.linspace(0, 1, 24 * 24 * 3).reshape(24, 24, 3) ** 2, 12)

    def classify(images: Tensor) -> list[Tensor]:
        bright = images[:, 0][:, torch.from_numpy(segments == 3)].std(1)
        return [torch.stack([bright, 1 - bright], 1)]

    own = explain(classify, torch.rand(3, 24, 24), 0, Perturbations.draw(segments, 300))
    assert own.shape == (1, segments.max() + 1)
    assert own[0].argmax() == 3
    assert np.array_equal(explanation(own[0], segments, best=1), segments == 3)
    assert not explanation(-np.abs(own[0]), segments).any()
