package status

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/outboxstream/streamer/internal/failure"
	"github.com/outboxstream/streamer/internal/ops"
)

// DescribeHealth says in one line what a streamer is doing.
func DescribeHealth(h ops.Health) string {
	text := string(h.Phase)
	if !h.Since.IsZero() {
		text += " for " + time.Since(h.Since).Round(time.Second).String()
	}
	if h.Detail != "" {
		text += ": " + h.Detail
	}
	return text
}

const (
	httpTimeout   = 3 * time.Second // less than a container's health check allows
	longestAnswer = 16 << 20
)

var errNoEndpoint = failure.Misconfigure(failure.Advise(
	errors.New("http.listen is empty, so a running streamer cannot be asked"),
	"set http.listen, for example to 127.0.0.1:9180",
))

// AskHealth asks the streamer that listens at an address for its health.
func AskHealth(ctx context.Context, listen string) (ops.Health, error) {
	var health ops.Health
	err := ask(ctx, listen, "/readyz", func(body io.Reader) error { return json.NewDecoder(body).Decode(&health) })
	if err == nil && health.Phase == "" {
		err = fmt.Errorf("the server at %s is not a streamer: check http.listen", reachable(listen))
	}
	return health, err
}

// ask reads what the running streamer answers. An answer of 503 has a body.
func ask(ctx context.Context, listen, path string, read func(io.Reader) error) error {
	if listen == "" {
		return errNoEndpoint
	}
	ctx, cancel := context.WithTimeout(ctx, httpTimeout)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+reachable(listen)+path, http.NoBody)
	if err != nil {
		return failure.Misconfigure(fmt.Errorf("http.listen: %w", err))
	}
	// A proxy from the environment is not meant for this machine.
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return fmt.Errorf("no streamer answers at %s: %w", reachable(listen), errors.Unwrap(err))
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK && response.StatusCode != http.StatusServiceUnavailable {
		return fmt.Errorf("the server at %s is not a streamer (%s): check http.listen", reachable(listen), response.Status)
	}
	if err := read(io.LimitReader(response.Body, longestAnswer)); err != nil {
		return fmt.Errorf("response of %s%s: %w", reachable(listen), path, err)
	}
	return nil
}

// reachable returns the address at which this machine reaches the listener. An
// address that means all interfaces cannot be connected to.
func reachable(listen string) string {
	host, port, err := net.SplitHostPort(listen)
	if err != nil {
		return listen
	}
	switch host {
	case "", "0.0.0.0":
		host = "127.0.0.1"
	case "::":
		host = "::1"
	}
	return net.JoinHostPort(host, port)
}
