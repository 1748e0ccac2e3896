# syntax=docker/dockerfile:1

# docker build .                 the streamer
# docker build --target shop .   the load generator of docker-compose.yml
#
# Both are static binaries in Google's distroless "static" image: certificate
# authorities, time zones and a user that is not root, but no shell and no
# package manager. scratch would need the first three copied in by hand.

FROM golang:1.26 AS build
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
RUN --mount=type=cache,target=/cache/mod --mount=type=cache,target=/cache/build \
    go build -trimpath -ldflags "-s -w" -o /out/ ./cmd/streamer ./examples/shop/cmd/shop

FROM gcr.io/distroless/static-debian12:nonroot AS shop
COPY --from=build /out/shop /shop
HEALTHCHECK --interval=10s --timeout=6s --start-period=10s CMD ["/shop", "--check-health"]
ENTRYPOINT ["/shop"]

# The last stage is what is built by default.
FROM gcr.io/distroless/static-debian12:nonroot AS streamer
COPY --from=build /out/streamer /streamer
# streamer.yaml is looked for here; environment variables (STREAMER_…) do as well.
WORKDIR /etc/streamer
EXPOSE 9180
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["/streamer", "health"]
ENTRYPOINT ["/streamer"]
CMD ["run"]
