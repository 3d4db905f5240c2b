# The service with the demo's index. Build: docker build -t landmark-retrieval . (--build-arg TORCH=gpu for CUDA)
# Run: docker run -p 8000:8000 -v $PWD/token:/run/secrets/token:ro landmark-retrieval
FROM python:3.11-slim-bookworm AS build

# cpu leaves out the CUDA libraries (several GB); gpu takes the packages as requirements.lock names them. TORCH_INDEX is the
# address of PyTorch's own index of CPU wheels; without it the default index gives wheels that hold CUDA.
ARG TORCH=cpu
ARG TORCH_INDEX=
WORKDIR /build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH
# The environment changes less often than the sources.
COPY requirements.lock ./
RUN if [ "$TORCH" = cpu ]; then \
        grep -ivE '^(torch|torchvision|triton|faiss-gpu|nvidia-|cuda-)' requirements.lock > wanted.txt \
        && grep -iE '^(torch|torchvision)==' requirements.lock > torch.txt \
        && pip install ${TORCH_INDEX:+--index-url "$TORCH_INDEX"} --requirement torch.txt; \
    else cp requirements.lock wanted.txt; fi
COPY pyproject.toml README.md LICENSE ./
COPY src src
COPY conf conf
# On a CPU the package of FAISS is another one, with the same module: it stands in for that which pyproject.toml names.
RUN if [ "$TORCH" = cpu ]; then \
        sed -i -e '/"faiss-gpu/d' -e 's/"faiss-cpu~=\([0-9.]*\);[^"]*"/"faiss-cpu~=\1"/' pyproject.toml; \
    fi \
    && pip install --constraint wanted.txt .

FROM python:3.11-slim-bookworm

RUN useradd --create-home --uid 10001 service \
    && install --directory --owner=service /srv/data
COPY --from=build /opt/venv /opt/venv
ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 OMP_WAIT_POLICY=passive \
    KEDRO_DISABLE_TELEMETRY=1 DO_NOT_TRACK=true MLFLOW_DISABLE_TELEMETRY=true
WORKDIR /srv
USER 10001
COPY --chown=service data/01_raw/demo data/01_raw/demo
RUN landmark-retrieval run && rm -rf mlruns mlflow.db

EXPOSE 8000
HEALTHCHECK --interval=30s --timeout=5s --start-period=60s \
    CMD ["python", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8000/ready', timeout=4)"]
ENTRYPOINT ["landmark-retrieval"]
CMD ["serve", "--host", "0.0.0.0", "--token-file", "/run/secrets/token", "--name", "demo"]
