# docker build -t leakbound .   then   docker run --rm -v "$PWD:/work" leakbound audit MODEL --prompts F --out runs/mine
# Linted (hadolint 2.15.1), and not built by us: no engine was at hand.
# leakbound with PyTorch for CPUs; what it writes goes to the folder that is mounted at /work.
FROM python:3.11-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE constraints.txt ./
COPY src src
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/leakbound \
 && /opt/leakbound/bin/pip install --index-url https://download.pytorch.org/whl/cpu torch==2.13.0 \
 && /opt/leakbound/bin/pip install --constraint constraints.txt '.[hf,gguf,openai]'

FROM python:3.11-slim
RUN useradd --create-home --uid 1000 audit && mkdir /work && chown audit /work
COPY --from=build /opt/leakbound /opt/leakbound
ENV PATH=/opt/leakbound/bin:$PATH PYTHONUNBUFFERED=1
USER 1000
WORKDIR /work
ENTRYPOINT ["leakbound"]
CMD ["--help"]
