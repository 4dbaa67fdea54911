import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import grid_sample

from maps.evidence import resized
from maps.frame import Frame
from maps.receptive import frames, frames_like
from models.backbones import make_backbone


def measured(*modules: nn.Module) -> Frame:
    (found,) = frames(lambda images: [nn.Sequential(*modules)(images)], 96, 96)
    assert isinstance(found, Frame)
    return found


@pytest.mark.parametrize(
    ("name", "blocks", "side"),
    [
        ("cnn6", 2, 128),
        ("cnn6", 3, 256),
        ("darknet53", 2, 128),
        ("resnet50", 2, 128),
        ("alexnet", 4, 256),
        ("googlenet", 4, 256),
        ("inception_v3", 6, 384),
    ],
)
def test_cells_lie_where_they_look(name: str, blocks: int, side: int) -> None:
    backbone = make_backbone(name, 0.125 if name in ("cnn6", "darknet53") else 1.0)
    network = nn.Sequential(*backbone.blocks[:blocks]).eval().double()
    for module in network.modules():  # so that every pixel in the window counts
        if isinstance(module, nn.Conv2d):
            nn.init.uniform_(module.weight, 0.5, 1)
        if isinstance(module, nn.MaxPool2d):
            module.forward = nn.AvgPool2d(module.kernel_size, module.stride, module.padding).forward  # type: ignore[method-assign,arg-type]
    frame = measured(*backbone.blocks[:blocks])
    cell = round((side / 2 - frame.offset) / frame.stride)
    image = torch.rand(1, 3, side, side, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(network(image)[0, :, cell, cell].sum(), image)
    seen = gradient.abs().sum((0, 1, 2)).nonzero()
    assert float(seen.min() + seen.max()) / 2 == pytest.approx(frame.stride * cell + frame.offset)


def test_a_convolution_that_keeps_its_place() -> None:
    kept = measured(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 4, 1))
    assert kept == Frame(1, 0)
    maps = torch.rand(2, 8, 8)
    torch.testing.assert_close(kept.placed(maps, 8, 8), maps)


def test_even_pools_are_stretching() -> None:
    """Where windows tile the image, placing is what libraries do, but for the outermost cells."""
    frame = measured(nn.MaxPool2d(2), nn.Conv2d(3, 3, 3, padding=1), nn.AvgPool2d(2))
    assert frame == Frame(4, 1.5)
    maps = torch.rand(2, 6, 5)
    torch.testing.assert_close(frame.placed(maps, 24, 20), resized(maps, 24, 20))


def test_placing_is_torchs_grid_sample() -> None:
    frame, maps = Frame(3.5, -4), torch.rand(2, 3, 7, 9)
    rows, columns = torch.arange(30) + 0.25, torch.arange(0, 40, 0.5)
    ys, xs = (2 * (own + 4) / 3.5 / (cells - 1) - 1 for own, cells in ((rows, 7), (columns, 9)))
    points = torch.stack([xs.expand(len(ys), -1), ys[:, None].expand(-1, len(xs))], -1).expand(2, -1, -1, -1)
    wanted = grid_sample(maps, points, padding_mode="border", align_corners=True)
    torch.testing.assert_close(frame.at(maps, rows, columns), wanted, rtol=1e-5, atol=1e-6)


def test_one_cell_is_everywhere() -> None:
    placed = Frame(32, 10).placed(torch.full((1, 1, 1), 3.0), 5, 7)
    assert torch.equal(placed, torch.full((1, 5, 7), 3.0))


class Gated(nn.Module):
    """A convolution times what is pooled from all of it, with a learned factor that begins at zero, and a branch."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.gate, self.branch = nn.Conv2d(3, 4, 3, 2, 1), nn.Conv2d(4, 4, 1), nn.Conv2d(3, 4, 7, 2, 3)
        self.factor = nn.Parameter(torch.zeros(4, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        found = self.one(images).relu_()
        found = found * self.gate(found.mean((2, 3), keepdim=True)).sigmoid()
        return found + self.factor * self.branch(images)


def test_what_is_pooled_from_everywhere_tells_no_place() -> None:
    assert measured(Gated()) == Frame(2, 0)
    assert measured(Gated(), nn.Conv2d(4, 4, 2)) == Frame(2, 1)
    assert measured(*(nn.Conv2d(3, 3, 3, 2, 1) for _ in range(4)), Gated()) == Frame(32, 0)


def test_cells_without_a_place() -> None:
    class Everywhere(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            cells = images[:, :, ::4, ::4].flatten(2)
            mixed = nn.functional.scaled_dot_product_attention(cells.mT, cells.mT, cells.mT)
            return mixed.mT.unflatten(2, (images.shape[2] // 4, images.shape[3] // 4))

    class Uneven(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images.unflatten(2, (-1, 8)).flip(3).flatten(2, 3)

    found = [frames(lambda images, own=own: [own()(images)], 64, 64)[0] for own in (Everywhere, Uneven)]  # type: ignore[misc]
    assert "the edge of an image of" in str(found[0])
    assert found[1] == "its cells are not spaced evenly"
    assert frames(lambda images: [images * 0], 64, 64) == ["its cells depend on no pixel"]


def test_windows_that_are_not_square() -> None:
    assert frames(lambda images: [nn.Conv2d(3, 3, (3, 5))(images)], 64, 64) == [
        "its rows are at 1·j +1, its columns at 1·j +2"
    ]


class Thinned(nn.Module):
    """Keeps each so many-th row and column, as no line of its text says."""

    def __init__(self, every: int) -> None:
        super().__init__()
        self.every = every

    def forward(self, x: Tensor) -> Tensor:
        return x[..., :: self.every, :: self.every]


class Patches(nn.Module):
    """Windows side by side, as large as its kernel is."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.kernel = nn.Parameter(torch.ones(4, 3, size, size))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.conv2d(x, self.kernel, stride=len(self.kernel[0, 0]))


def test_networks_of_one_structure_are_measured_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[nn.Module] = []

    def like(network: nn.Module) -> list[Frame | str]:
        def run(images: Tensor) -> list[Tensor]:
            asked.append(network)
            return [network(images)]

        return frames_like(network, run, (64, 64))

    def made(stride: int, every: int = 1) -> nn.Sequential:
        return nn.Sequential(nn.Conv2d(3, 4, 3, stride, 1), nn.BatchNorm2d(4), Thinned(every)).eval()

    monkeypatch.setattr("maps.receptive.MEASURED", {})
    first, other, coarser, thinner, bound = made(1), made(1), made(2), made(1, 2), made(1)
    bound[2].forward = made(1, 2)[2].forward
    small, large = Patches(2), Patches(4)
    wanted = [Frame(1, 0), Frame(1, 0), Frame(2, 0), Frame(2, 0), Frame(2, 0), Frame(2, 0.5), Frame(4, 1.5)]
    for network, frame in zip((first, other, coarser, thinner, bound, small, large), wanted, strict=True):
        assert like(network) == [measured(network)] == [frame]
    assert {id(own) for own in asked} == {id(own) for own in (first, coarser, thinner, bound, small, large)}
    asked.clear()
    assert [like(network) for network in (first, bound)] == [[Frame(1, 0)], [Frame(2, 0)]]
    assert not asked, "nor is one network measured twice, whatever its settings are"
