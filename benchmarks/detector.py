"""Speed of the detector over its peers, and the cost of what is beside the network, in one run. Prints JSON lines.

`python -m benchmarks.detector`: full-width YOLOv3 of 80 classes. The peer is `yolov3.yaml` of the ultralytics package,
which has DarkNet-53 and three scales too but a larger pyramid and another head; times are therefore compared at equal
multiplications: images a second times multiplications an image. The two sides of a ratio run in turns.
"""

import ctypes
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.figures import Turn, in_turns, show
from benchmarks.pipeline import judged_outside, suppression, waiting
from benchmarks.workload import CLASSES, make_detector, random_truth
from deployment.export import write_onnx
from models.backbones import make_backbone
from models.decode import Decoder
from models.detectors import DETECTORS, Settings
from models.inference import for_inference
from models.loss import YOLOLoss
from models.onnx_detector import load_onnx
from models.trained import TrainedDetector
from models.yolov3 import YOLOv3, scaled_anchors
from utils.boxes import Truth, xyxy_to_cxcywh
from utils.device import M_MMAP_MAX, M_TRIM_THRESHOLD, keep_memory
from utils.errors import run_cli
from utils.parser import Parser
from utils.ultralytics_parts import ultralytics


@dataclass(frozen=True)
class Size:
    """What the two sides compute.

    Attributes:
        imgsz: side of the images beside training.
        training: side and number of the images of a training step, for each that is measured.
        width: factor on our channel counts.
        peer: the package's model.
    """

    imgsz: int
    training: Sequence[tuple[int, int]]
    width: float
    peer: str


def multiplications(network: nn.Module, imgsz: int) -> int:
    """Of one image, forward."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network.eval()(torch.rand(1, 3, imgsz, imgsz))
    return int(counter.get_total_flops()) // 2


def make_peer(model: str) -> Any:
    """A network of the ultralytics package with fresh weights, as its trainer sets it up."""
    peer = ultralytics("nn.tasks").DetectionModel(model, nc=CLASSES, verbose=False)
    peer.args = ultralytics("cfg").get_cfg()
    return peer


def own_step(model: YOLOv3, images: Tensor, truth: Truth, precision: str) -> Turn:
    """Network, loss, backward, clip, and the optimiser that the peer has by default: SGD with Nesterov's momentum."""
    criterion = YOLOLoss(Decoder(scaled_anchors(images.shape[-1])))
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-4, momentum=0.937, nesterov=True, fused=True)

    def step() -> None:
        model.train()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            raw_maps = model(images)
        torch.stack(list(criterion(raw_maps, truth).values())).sum().backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)

    return step


def peer_step(peer: Any, images: Tensor, truth: Truth) -> Turn:
    """The same of the peer in fp32."""
    optimizer = torch.optim.SGD(peer.parameters(), lr=1e-4, momentum=0.937, nesterov=True)
    boxes = xyxy_to_cxcywh(truth.boxes_xyxy) / images.shape[-1]
    batch = {"img": images, "cls": truth.labels[:, None].float(), "bboxes": boxes, "batch_idx": truth.sample.float()}

    def step() -> None:
        peer.train()
        loss, _ = peer(batch)
        loss.sum().backward()
        torch.nn.utils.clip_grad_norm_(peer.parameters(), 10.0)
        optimizer.step()
        optimizer.zero_grad()

    return step


def training(repeats: int, size: Size, *, with_compile: bool) -> None:
    """Images a second of training over the peer's at equal multiplications, and what each measure of speed gives."""
    keep_memory()  # as training does; the peer has the good of it too
    peer = make_peer(size.peer)
    own = {name: make_detector(size.width) for name in ("bf16", "fp32")}
    for imgsz, batch in size.training:
        images, truth = torch.rand(batch, 3, imgsz, imgsz), random_truth(imgsz, batch)
        last = images.contiguous(memory_format=torch.channels_last)
        sides = {name: own_step(model, last, truth, name) for name, model in own.items()}
        seconds = in_turns({**sides, "peer": peer_step(peer, images, truth)}, repeats)
        work = multiplications(own["fp32"], imgsz) / multiplications(peer, imgsz)
        rates = {name: round(batch / own_seconds, 2) for name, own_seconds in seconds.items()}
        for name, target in (("bf16", 2.3), ("fp32", 1.0)):
            figure = f"training throughput in {name} over the peer's in fp32, {imgsz} px, batch {batch}"
            value = seconds["peer"] / seconds[name] * work
            show(figure, value, target, f"ultralytics {size.peer}", images_per_second=rates, work=round(work, 3))
    del peer
    layouts(own["bf16"], repeats, size, with_compile=with_compile)


def layouts(model: YOLOv3, repeats: int, size: Size, *, with_compile: bool) -> None:
    """What each measure of speed gives in bf16, at the first size: channels_last, kept memory, torch.compile."""
    imgsz, batch = size.training[0]
    images, truth = torch.rand(batch, 3, imgsz, imgsz), random_truth(imgsz, batch)
    last = images.contiguous(memory_format=torch.channels_last)
    step, contiguous = own_step(model, last, truth, "bf16"), YOLOv3(make_backbone("darknet53", size.width), CLASSES)

    def returned() -> None:
        return_freed()
        step()
        keep_memory()

    sides = {
        "now": step,
        "contiguous": own_step(contiguous, images, truth, "bf16"),
        "returned": returned,
    }
    if with_compile:
        quick = make_detector(size.width)
        quick.compile()
        sides["compiled"] = own_step(quick, last, truth, "bf16")
        began = time.perf_counter()
        sides["compiled"]()
        first = round(time.perf_counter() - began, 1)
    seconds = in_turns(sides, repeats)
    at = f"training in bf16, {imgsz} px, batch {batch}"
    show(f"channels_last over contiguous, {at}", seconds["contiguous"] / seconds["now"], 1.0, "itself")
    show(f"freed memory kept over returned, {at}", seconds["returned"] / seconds["now"], 1.0, "itself")
    if with_compile:
        value = seconds["now"] / seconds["compiled"]
        show(f"torch.compile over eager, {at}", value, 1.0, "itself", seconds_to_compile=first)


def return_freed() -> None:
    """The GNU C library's defaults again, which `keep_memory` changed."""
    if mallopt := getattr(ctypes.CDLL(None), "mallopt", None):
        mallopt(M_MMAP_MAX, 65536)
        mallopt(M_TRIM_THRESHOLD, 128 * 1024)


def inference(repeats: int, size: Size) -> None:
    """Time of one image, network and decoding, over the fused peer's in fp32 at equal multiplications."""
    imgsz = size.imgsz
    image = torch.rand(1, 3, imgsz, imgsz)
    last = image.contiguous(memory_format=torch.channels_last)
    peer, model = make_peer(size.peer), make_detector(size.width).eval()
    work = multiplications(model, imgsz) / multiplications(peer, imgsz)
    fused, decoder = peer.fuse(verbose=False).eval(), Decoder(scaled_anchors(imgsz))
    quick = {name: for_inference(model, name) for name in ("bf16", "fp32")}
    names = [str(index) for index in range(CLASSES)]
    settings = Settings(CLASSES, imgsz, tuple(scaled_anchors(imgsz)))
    about = (Path("x"), names, imgsz, None, "cpu")
    detector = TrainedDetector(*about, quick["fp32"], decoder, {}, "benchmark", DETECTORS["yolov3"], settings)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        path = Path(folder) / "x.onnx"
        with torch.inference_mode(mode=False):
            write_onnx(detector, path)
        onnx = load_onnx(path)
        sides: dict[str, Turn] = {
            "bf16": lambda: decoder(quick["bf16"](last)),
            "fp32": lambda: decoder(quick["fp32"](last)),
            "onnx": lambda: onnx.outputs(image),
            "peer": lambda: fused(image),
        }
        seconds = in_turns(sides, 4 * repeats)
        convolving = share_of_convolutions(path, image)
    shown = {name: round(own, 4) for name, own in seconds.items()}
    bound = round(seconds["peer"] / (convolving * seconds["onnx"]) * work, 3)
    for name, what, target, floor in (
        ("bf16", "PyTorch in bf16", 1.9, None),
        ("onnx", "onnxruntime in fp32", 1.3, bound),
    ):
        figure = f"inference speed of {what} over the peer's in fp32, {imgsz} px, batch 1"
        value = seconds["peer"] / seconds[name] * work
        show(figure, value, target, f"ultralytics {size.peer}, fused", floor=floor, seconds=shown, work=round(work, 3))


def share_of_convolutions(path: Path, image: Tensor, runs: int = 5) -> float:
    """Share of onnxruntime's time that goes into its convolution kernels, which no other graph would make faster."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.enable_profiling, options.profile_file_prefix = True, str(path.with_suffix(""))
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    for _ in range(runs):
        session.run(None, {"images": image.numpy()})
    events = json.loads(Path(session.end_profiling()).read_text())
    nodes = [event for event in events if event.get("cat") == "Node"]
    convolving = sum(event["dur"] for event in nodes if event["args"]["op_name"] == "Conv")
    return convolving / sum(event["dur"] for event in nodes)


def main() -> None:
    """Measure and print."""
    parser = Parser(description="Speed of the detector over its peers, as JSON lines.")
    groups = ("training", "inference", "waiting", "judged", "suppression")
    parser.add_argument("--only", choices=groups, help="one group of figures [all]")
    parser.add_argument("--data", type=Path, help="data yaml of the groups waiting and judged [built-in scenes]")
    parser.add_argument("--repeats", type=int, default=5, help="timed turns of each side, after a warm-up [5]")
    parser.add_argument("--compile", action="store_true", help="with training: torch.compile too, some minutes more")
    parser.add_argument("--imgsz", type=int, help="side of the images [416, in training 256 too]")
    parser.add_argument("--width", type=float, default=1.0, help="factor on our channel counts [1]")
    parser.add_argument("--images", type=int, default=64, help="built-in scenes of the groups waiting and judged [64]")
    parser.add_argument("--peer", default="yolov3.yaml", help="the package's model [yolov3.yaml]")
    given = parser.parse_args()
    torch.manual_seed(0)
    batches = ((given.imgsz, 2),) if given.imgsz else ((256, 8), (416, 4))
    size = Size(given.imgsz or 416, batches, given.width, given.peer)
    measures: dict[str, Turn] = {
        "training": lambda: training(given.repeats, size, with_compile=given.compile),
        "inference": lambda: inference(given.repeats, size),
        "waiting": lambda: waiting(given.data, size.imgsz, given.width, given.images),
        "judged": lambda: judged_outside(given.data, given.images),
        "suppression": lambda: suppression(given.repeats, size.imgsz),
    }
    for name in groups if given.only is None else (given.only,):
        measures[name]()


if __name__ == "__main__":
    run_cli(main)
