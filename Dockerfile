# The command alone: no shell, no package manager, not root. Without the database in memory that `tollstream up` can start.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
ARG VERSION=
RUN CGO_ENABLED=0 go build -buildvcs=false -trimpath \
      -ldflags "-s -w -X main.version=$VERSION" -o /out/tollstream ./cmd/tollstream \
 && mkdir -p /out/state

FROM scratch
# For brokers and databases behind TLS. Time zones are in the binary.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /out/tollstream /usr/local/bin/tollstream
# A named volume takes over the owner of the folder that it covers.
COPY --from=build --chown=65532:65532 /out/state /var/lib/tollstream
ENV PATH=/usr/local/bin TOLLSTREAM_STATE_DIR=/var/lib/tollstream
VOLUME /var/lib/tollstream
USER 65532:65532
ENTRYPOINT ["tollstream"]
CMD ["--help"]
