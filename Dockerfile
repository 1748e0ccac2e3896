# syntax=docker/dockerfile:1

# docker build .                 the streamer
# docker build --target shop .   the load generator of docker-compose.yml
# docker buildx build --platform linux/amd64,linux/arm64 --build-arg VERSION=0.1.0 .
#
# The images below are pinned: a tag can be moved, a digest cannot. Dependabot
# renews them. Each digest names the index of all platforms.
#
# Both are static binaries in Google's distroless "static" image: certificate
# authorities, time zones and a user that is not root, but no shell and no
# package manager. scratch would need the first three copied in by hand.

# The compiler runs on the machine that builds, and compiles for the others.
FROM --platform=$BUILDPLATFORM golang:1.26@sha256:3aff6657219a4d9c14e27fb1d8976c49c29fddb70ba835014f477e1c70636647 AS build
WORKDIR /src
ENV CGO_ENABLED=0 GOMODCACHE=/cache/mod GOCACHE=/cache/build
COPY go.mod go.sum ./
RUN --mount=type=cache,target=/cache/mod go mod download
# Named one by one: what is not code does not end up in a layer or break the cache.
COPY checkpoint checkpoint
COPY cmd cmd
COPY decoder decoder
COPY examples examples
COPY internal internal
COPY replication replication
COPY router router
ARG TARGETOS TARGETARCH VERSION=
# The flags are those of .goreleaser.yaml.
RUN --mount=type=cache,target=/cache/mod --mount=type=cache,target=/cache/build \
    GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath \
      -ldflags "-s -w -X github.com/outboxstream/streamer/cmd/streamer/internal/console.version=$VERSION" \
      -o /out/ ./cmd/streamer ./examples/shop/cmd/shop

FROM gcr.io/distroless/static-debian12:nonroot@sha256:afa5c872c891853ca7fcf1f12c3edb23f7eeef36189728842dd51042ff57f7ab AS shop
COPY --from=build /out/shop /shop
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s CMD ["/shop", "--check-health"]
ENTRYPOINT ["/shop"]

# The last stage is what is built by default.
FROM gcr.io/distroless/static-debian12:nonroot@sha256:afa5c872c891853ca7fcf1f12c3edb23f7eeef36189728842dd51042ff57f7ab AS streamer
COPY --from=build /out/streamer /streamer
# streamer.yaml is looked for here; environment variables (STREAMER_…) do as well.
WORKDIR /etc/streamer
EXPOSE 9180
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["/streamer", "health"]
ENTRYPOINT ["/streamer"]
CMD ["run"]
