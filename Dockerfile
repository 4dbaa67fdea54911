# Two targets: `cpu`, without CUDA libraries, and `cuda`, with those of PyTorch's own builds (docs/containers.md).
# Checked by hadolint; not built so far, for want of a builder.
ARG PYTHON=3.11
FROM python:${PYTHON}-slim-bookworm AS base
ARG VERSION=0.1.0
LABEL org.opencontainers.image.title="cascade-yolo" \
      org.opencontainers.image.description="Cascade-learned backbones for YOLOv3, and what their features see" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="AGPL-3.0-only"
ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 MPLCONFIGDIR=/tmp/matplotlib
# Nobody is root in the container; runs/ and data/sets are the places that commands write to.
RUN useradd --create-home --uid 1000 user \
    && mkdir -p /project/runs /project/data/sets \
    && chown -R user:user /project
WORKDIR /project
COPY requirements.txt .

FROM base AS cpu
RUN grep -E '^torch(vision)?==' requirements.txt > torch.txt \
    && pip install --index-url https://download.pytorch.org/whl/cpu -r torch.txt \
    && pip install -r requirements.txt \
    && grep '^opencv' requirements.txt > opencv.txt \
    && pip uninstall --yes opencv-python \
    && pip install --no-deps --force-reinstall -r opencv.txt \
    && rm torch.txt opencv.txt
COPY --chown=user:user . .
USER 1000
CMD ["python", "detect.py"]

FROM base AS cuda
RUN pip install -r requirements.txt \
    && grep '^opencv' requirements.txt > opencv.txt \
    && pip uninstall --yes opencv-python \
    && pip install --no-deps --force-reinstall -r opencv.txt \
    && rm opencv.txt
COPY --chown=user:user . .
USER 1000
CMD ["python", "train.py", "--device", "cuda"]
