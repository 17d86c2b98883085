# The image is one static binary on an empty root: no shell, no package manager.
#
#   docker build -t switchboard .                         the service
#   docker build --target s3server -t switchboard-s3 .    the S3 server of docker-compose.yml

# ---- the operators' desk ----------------------------------------------------
FROM --platform=$BUILDPLATFORM node:22-bookworm-slim AS web
WORKDIR /src/web
# The lock file first: dependencies are fetched again only when it changes.
COPY web/package.json web/package-lock.json web/.npmrc ./
RUN npm ci --no-audit --no-fund
COPY web/ ./
RUN npm run build

# ---- Go ---------------------------------------------------------------------
FROM --platform=$BUILDPLATFORM golang:1.26-bookworm AS go
# What becomes / of the images: certificate authorities (platforms speak TLS),
# the two names that programs look up, and an empty folder to mount data on.
RUN mkdir -p /root-of-image/etc/ssl/certs /root-of-image/data /root-of-image/tmp \
 && cp /etc/ssl/certs/ca-certificates.crt /root-of-image/etc/ssl/certs/ \
 && echo 'switchboard:x:65532:65532:Switchboard:/:/nonexistent' > /root-of-image/etc/passwd \
 && echo 'switchboard:x:65532:' > /root-of-image/etc/group \
 && chown 65532:65532 /root-of-image/data && chmod 1777 /root-of-image/tmp
ENV CGO_ENABLED=0 GOTOOLCHAIN=local
ARG TARGETOS TARGETARCH

FROM go AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
COPY --from=web /src/web/dist/ web/dist/
ARG VERSION=dev
RUN GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false \
    -ldflags "-s -w -X main.version=$VERSION" -o /out/switchboard ./cmd/switchboard

FROM go AS build-s3server
WORKDIR /src
COPY tools/s3server/go.mod tools/s3server/go.sum ./
RUN GOOS=$TARGETOS GOARCH=$TARGETARCH go build -trimpath -buildvcs=false \
    -ldflags "-s -w" -o /out/versitygw github.com/versity/versitygw/cmd/versitygw

# ---- what runs --------------------------------------------------------------
FROM scratch AS s3server
COPY --from=go /root-of-image/ /
COPY --from=build-s3server /out/versitygw /versitygw
USER 65532:65532
VOLUME /data
EXPOSE 7070
# The keys come as ROOT_ACCESS_KEY and ROOT_SECRET_KEY. /data must be on a file
# system with extended attributes (ext4, xfs, btrfs): metadata is kept in them.
ENTRYPOINT ["/versitygw"]
CMD ["--port", ":7070", "--region", "us-east-1", "--quiet", "posix", "/data"]

FROM scratch AS switchboard
COPY --from=go /root-of-image/ /
COPY --from=build /out/switchboard /switchboard
USER 65532:65532
# Inside a container loopback is nobody else's: listen on every interface, and
# leave it to the network who gets there. 9090 is for operations only.
ENV SWITCHBOARD_HTTP_ADDR=0.0.0.0:8080 \
    SWITCHBOARD_OPS_ADDR=0.0.0.0:9090 \
    SWITCHBOARD_DATA_DIR=/data \
    SWITCHBOARD_LOG_FORMAT=json
EXPOSE 8080 9090
STOPSIGNAL SIGTERM
# No HEALTHCHECK: it would need a program in the image. Whoever runs the
# container asks GET /readyz on port 9090.
ENTRYPOINT ["/switchboard"]
CMD ["serve"]
