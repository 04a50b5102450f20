# One image with all commands: producer, worker, outbox. It has no shell and no operating system.
#
#   docker build -t signalbox .
#   docker run --rm -e DATABASE_URL=… signalbox worker --subscription log

FROM golang:1.26.8-alpine AS build
WORKDIR /src
# The modules first: they change less often than the code.
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/go/pkg/mod go mod download
COPY . .
RUN --mount=type=cache,target=/go/pkg/mod --mount=type=cache,target=/root/.cache/go-build \
    CGO_ENABLED=0 go build -trimpath -ldflags='-s -w' -o /out/ ./cmd/...

FROM scratch
# For databases that are reached over TLS.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/ /usr/local/bin/
USER 65532:65532
# 8080 takes the producer's requests. On 8081, which is not for the public, producers and workers serve /healthz, /readyz, /metrics
# and profiles.
ENV SIGNALBOX_LISTEN=:8080 SIGNALBOX_ADMIN=:8081
EXPOSE 8080 8081
# Asks whether it can serve, and not only whether it runs. Docker shows the answer, and restarts nothing because of it.
HEALTHCHECK --interval=5s --timeout=5s --start-period=30s CMD ["outbox", "health", "http://127.0.0.1:8081/readyz"]
CMD ["outbox", "--help"]
