from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from timm.layers import BatchNormAct2d
from torch import Tensor, distributed, nn
from warm import warm_up

from models.batchnorm import GlobalBatchNorm1d, GlobalBatchNorm2d, divisor_of, globalise
from models.cascade import StageNet
from models.darknet import DarkNet, DarkNetConfig
from models.heads import make_head

RANKS, SHARE, CHANNELS = 2, 3, 4
COUNTS = {"some": (1, 4), "one": (0, 1), "none": (0, 0)}  # of something on each rank
Figures = dict[str, Tensor]


def material() -> tuple[Tensor, Tensor]:
    """The global batch, with a mean and a spread of each channel and rank, and the gradient of its output."""
    generator = torch.Generator().manual_seed(7)
    x = torch.randn(RANKS * SHARE, CHANNELS, 5, 6, generator=generator)
    x[SHARE:] = 3 * x[SHARE:] + torch.arange(CHANNELS).view(-1, 1, 1)
    return x, torch.randn(x.shape, generator=generator)


def passes(norm: nn.BatchNorm2d, x: Tensor, grad: Tensor) -> Figures:
    """Two training passes, the second at half the input; what there is to compare."""
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(0.5, 2, CHANNELS))
        norm.bias.copy_(torch.linspace(-1, 1, CHANNELS))
    norm(x / 2)
    x = x.clone().requires_grad_()
    # A view, an in-place step and a sum follow, as in a network.
    y = norm(x)
    (nn.functional.leaky_relu_(y, 0.1) * grad).sum().backward()
    assert x.grad is not None
    assert norm.weight.grad is not None
    assert norm.bias.grad is not None
    buffers = {name: buffer.clone() for name, buffer in norm.named_buffers()}
    return {"y": y.detach(), "x.grad": x.grad, "weight.grad": norm.weight.grad, "bias.grad": norm.bias.grad} | buffers


def of_a_rank(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=RANKS)
    part = slice(rank * SHARE, (rank + 1) * SHARE)
    x, grad = (whole[part] for whole in material())
    results = {f"momentum {m}": passes(GlobalBatchNorm2d(CHANNELS, momentum=m), x, grad) for m in (0.1, None)}
    norm = GlobalBatchNorm2d(CHANNELS)
    with torch.autocast("cpu", torch.bfloat16):
        results["bf16"] = {"y": norm(x.bfloat16()).detach(), "running_var": norm.running_var}  # type: ignore[dict-item]
    flat = GlobalBatchNorm1d(CHANNELS)
    results["flat"] = {"y": flat(x.mean((2, 3))).detach()}
    results["evaluation"] = {"y": norm.eval()(x).detach()}
    results["acting"] = {"y": globalise(BatchNormAct2d(CHANNELS))(x).detach()}
    results["recomputed"] = recomputed_gradients(x)
    results["counts"] = {name: divisor_of(torch.tensor(own[rank])) for name, own in COUNTS.items()}
    torch.save(results, folder / f"{rank}.pt")
    distributed.destroy_process_group()


def recomputed_gradients(x: Tensor) -> Figures:
    """Gradients of a stage and of its recomputed twin under several processes, and one of its counters."""
    found: Figures = {}
    for recompute in (False, True):
        torch.manual_seed(0)
        backbone = DarkNet(DarkNetConfig(width=0.125))
        stage = StageNet(backbone, 0, 2, make_head("gap", (16, 1, 1), 2), recompute=recompute)
        globalise(stage)(nn.functional.interpolate(x[:, :3], 32)).square().sum().backward()
        found |= {f"{name} {recompute}": p.grad for name, p in stage.named_parameters() if p.grad is not None}
        found |= {f"{name} {recompute}": b for name, b in stage.named_buffers()}
    return found


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Figures]]:
    folder = tmp_path_factory.mktemp("ranks")
    warm_up()
    mp.start_processes(of_a_rank, (folder,), nprocs=RANKS, start_method="forkserver")
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(RANKS)]


def close(found: Tensor, wanted: Tensor) -> None:
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_as_one_process_with_the_whole_batch(ranks: list[dict[str, Figures]], momentum: float | None) -> None:
    wanted = passes(nn.BatchNorm2d(CHANNELS, momentum=momentum), *material())
    own = [rank[f"momentum {momentum}"] for rank in ranks]
    for name in ("y", "x.grad"):
        close(torch.cat([rank[name] for rank in own]), wanted[name])
    for name in ("weight.grad", "bias.grad"):  # DDP averages over ranks; their loss is here a sum, not a mean
        close(torch.stack([rank[name] for rank in own]).mean(0) * RANKS, wanted[name])
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        for rank in own:
            close(rank[name], wanted[name])


def test_sums_of_ranks_over_the_count_of_all(ranks: list[dict[str, Figures]]) -> None:
    for name, counts in COUNTS.items():
        mean = sum(count / float(rank["counts"][name]) for count, rank in zip(counts, ranks, strict=True)) / RANKS
        assert mean == sum(counts) / max(1, sum(counts))
    assert [int(divisor_of(torch.tensor(count))) for count in (0, 5)] == [1, 5]


def test_bf16_in_and_out_with_statistics_in_float32(ranks: list[dict[str, Figures]]) -> None:
    x, _ = material()
    norm = nn.BatchNorm2d(CHANNELS)
    wanted = norm(x.bfloat16().float())
    found = torch.cat([rank["bf16"]["y"] for rank in ranks])
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), wanted, rtol=2**-8, atol=1e-5)
    assert norm.running_var is not None
    close(ranks[0]["bf16"]["running_var"], norm.running_var)


def test_vectors(ranks: list[dict[str, Figures]]) -> None:
    wanted = nn.BatchNorm1d(CHANNELS)(material()[0].mean((2, 3)))
    close(torch.cat([rank["flat"]["y"] for rank in ranks]), wanted)


def test_timms_with_its_non_linearity(ranks: list[dict[str, Figures]]) -> None:
    wanted = BatchNormAct2d(CHANNELS)(material()[0]).detach()
    close(torch.cat([rank["acting"]["y"] for rank in ranks]), wanted)
    assert wanted.min() == 0


def test_evaluation_takes_the_running_statistics(ranks: list[dict[str, Figures]]) -> None:
    x, _ = material()
    norm = nn.BatchNorm2d(CHANNELS)
    norm(x.bfloat16().float())
    close(torch.cat([rank["evaluation"]["y"] for rank in ranks]), norm.eval()(x))


def test_recomputation_counts_a_batch_once(ranks: list[dict[str, Figures]]) -> None:
    for rank in ranks:
        figures = rank["recomputed"]
        plain = {name.split()[0]: value for name, value in figures.items() if name.endswith("False")}
        assert plain
        assert all(torch.equal(figures[f"{name} True"], value) for name, value in plain.items())


def test_alone_it_is_torchs() -> None:
    x, grad = material()
    own, wanted = (passes(kind(CHANNELS), x, grad) for kind in (GlobalBatchNorm2d, nn.BatchNorm2d))
    assert all(torch.equal(own[name], wanted[name]) for name in wanted)


def test_globalise_keeps_tensors_names_and_modes() -> None:
    backbone = DarkNet(DarkNetConfig(width=0.125))
    head = make_head("mlp_sr", (8, 4, 4), 3)
    backbone.freeze(2)
    before, part = backbone.state_dict(keep_vars=True), nn.Sequential(*backbone.blocks[:3])
    assert globalise(backbone) is backbone
    after = backbone.state_dict(keep_vars=True)
    assert list(after) == list(before)
    assert all(after[name] is before[name] for name in before)
    assert {type(m) for m in part.modules() if isinstance(m, nn.BatchNorm2d)} == {GlobalBatchNorm2d}
    assert not backbone.blocks[1].training
    assert {type(m) for m in globalise(head).modules() if isinstance(m, nn.BatchNorm1d)} == {GlobalBatchNorm1d}
