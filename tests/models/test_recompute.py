import pytest
import torch
from torch import Tensor, nn

from models.backbones import make_backbone
from models.cascade import StageNet
from models.heads import make_head

Tensors = dict[str, Tensor]


def twin_steps(name: str, start: int, stop: int, shape: tuple[int, ...]) -> list[tuple[Tensors, Tensors, int]]:
    """Gradients, buffers and bytes saved for backward after one pass, plain and recomputed, from equal beginnings."""
    results = []
    for recompute in (False, True):
        torch.manual_seed(0)
        backbone = make_backbone(name, 0.125)
        stage = StageNet(
            backbone, start, stop, make_head("gap", (backbone.channels[stop - 1], 1, 1), 3), recompute=recompute
        )
        x = torch.rand(shape)
        saved = saved_bytes_of_a_pass(stage, x)
        gradients = {key: p.grad for key, p in stage.named_parameters() if p.grad is not None}
        results.append((gradients, dict(stage.named_buffers()), saved))
    return results


def saved_bytes_of_a_pass(stage: StageNet, x: Tensor) -> int:
    own = {p.untyped_storage().data_ptr() for p in stage.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        logits = stage.train()(x)
    saved = sum(kept.values())
    logits.square().sum().backward()
    return saved


CASES = [
    ("darknet53", 0, 3, (2, 3, 32, 32)),
    ("darknet53", 3, 6, (2, 16, 8, 8)),
    ("cnn6", 0, 3, (2, 3, 24, 24)),
]


@pytest.mark.parametrize(("name", "start", "stop", "shape"), CASES)
def test_same_to_the_last_bit_with_less_kept(name: str, start: int, stop: int, shape: tuple[int, ...]) -> None:
    (gradients, buffers, plain), (again, buffers_again, less) = twin_steps(name, start, stop, shape)
    assert gradients
    assert gradients.keys() == again.keys()
    assert all(torch.equal(gradients[key], again[key]) for key in gradients)
    assert all(torch.equal(buffers[key], buffers_again[key]) for key in buffers)
    assert {int(value) for key, value in buffers.items() if key.endswith("num_batches_tracked")} == {1}
    assert less < 0.6 * plain


def test_statistics_count_again_in_the_next_pass() -> None:
    backbone = make_backbone("darknet53", 0.125)
    stage = StageNet(backbone, 0, 2, make_head("gap", (16, 1, 1), 3), recompute=True)
    buffers = dict(stage.named_buffers())
    for _ in range(2):
        stage(torch.rand(2, 3, 32, 32)).sum().backward()
    norms = [m for m in stage.part.modules() if isinstance(m, nn.BatchNorm2d)]
    assert {int(norm.num_batches_tracked) for norm in norms} == {2}
    assert all(buffer is buffers[name] for name, buffer in stage.named_buffers())


def test_evaluation_gives_the_same() -> None:
    backbone, x = make_backbone("darknet53", 0.125), torch.rand(2, 3, 32, 32)
    head = make_head("gap", (16, 1, 1), 3)
    stages = [StageNet(backbone, 0, 2, head, recompute=recompute).eval() for recompute in (False, True)]
    with torch.inference_mode():
        assert torch.equal(*[stage(x) for stage in stages])
