# CPU:  docker build -t nnunet-xmodal .
# CUDA: docker build -t nnunet-xmodal:cuda --build-arg TORCH=https://download.pytorch.org/whl/cu126 .
# docker run --rm --shm-size 8g [--gpus all] -v "$PWD:/data" nnunet-xmodal nnUNetXModal_demo --folder /data/demo
FROM debian:bookworm-slim
ARG TORCH=https://download.pytorch.org/whl/cpu
RUN apt-get update \
    && apt-get install -y --no-install-recommends python3 python3-venv ca-certificates \
    && rm -rf /var/lib/apt/lists/* \
    && python3 -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 MPLCONFIGDIR=/tmp/matplotlib
RUN pip install --no-cache-dir torch --index-url "$TORCH"
COPY . /opt/nnunet-xmodal
RUN pip install --no-cache-dir "/opt/nnunet-xmodal[dicom]" \
    && install -m 755 /opt/nnunet-xmodal/container/grand_challenge.sh /usr/local/bin/grand_challenge \
    && useradd --create-home user && mkdir /input /output /opt/ml && chown user /output
USER user
WORKDIR /home/user
CMD ["nnUNetXModal_trainers"]
