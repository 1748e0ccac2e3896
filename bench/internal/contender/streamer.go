package contender

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/outboxstream/streamer/internal/testserver"
)

// Streamer is the streamer, in one configuration.
type Streamer struct {
	programs Programs
	variant  Variant
	address  string // of the HTTP endpoint of the current task
}

// Variant is a configuration of the streamer: its name, and the keys that
// differ from the defaults.
type Variant struct {
	Name  string
	Set   map[string]string
	About string
	// Program is the binary; empty: the one that is built from this tree.
	Program string
}

// Before is a streamer that is built from an earlier commit, with its defaults.
func Before(commit string) Variant {
	return Variant{Name: "before", About: "of commit " + commit, Program: "before"}
}

// Profiled is the variant with an endpoint for profiles.
func (v Variant) Profiled() Variant {
	v.Set = maps.Clone(v.Set)
	if v.Set == nil {
		v.Set = map[string]string{}
	}
	v.Set["http.pprof"] = "true"
	return v
}

func (v Variant) program() string { return cmp.Or(v.Program, "streamer") }

// Variants returns the variants that are compared.
func Variants() []Variant {
	return []Variant{
		{Name: "streamer", About: "with its defaults"},
		{Name: "streamer-stream", Set: map[string]string{"replication.reader": "stream"}, About: "with the streaming reader only"},
		{
			Name:  "streamer-catch-up",
			Set:   map[string]string{"replication.reader": "catch-up"},
			About: "with the catch-up reader whenever it is behind",
		},
	}
}

// NewStreamer returns an error that wraps [ErrMissing] if the binary does not
// know the keys of the variant.
func NewStreamer(ctx context.Context, programs Programs, variant Variant) (*Streamer, error) {
	s := &Streamer{programs: programs, variant: variant}
	cmd := exec.CommandContext(ctx, programs.Of(variant.program()), s.arguments("config")...)
	cmd.Env, cmd.Dir = environment(), programs.Folder
	if err := run(cmd); err != nil {
		return nil, fmt.Errorf("%w: the binary refuses the configuration of %s: %w", ErrMissing, variant.Name, err)
	}
	return s, nil
}

// Name is the name of the variant.
func (s *Streamer) Name() string { return s.variant.Name }

// About names the variant.
func (s *Streamer) About() string { return "the streamer " + s.variant.About }

// Kind is Relay.
func (s *Streamer) Kind() Kind { return Relay }

// arguments are a command's arguments, with the keys of the variant.
func (s *Streamer) arguments(command ...string) []string {
	for _, key := range sorted(s.variant.Set) {
		command = append(command, "--set", key+"="+s.variant.Set[key])
	}
	return command
}

func (s *Streamer) command(ctx context.Context, t Task, command ...string) *exec.Cmd {
	command = append([]string{"--config", filepath.Join(t.Folder, "streamer.yaml")}, s.arguments(command...)...)
	cmd := exec.CommandContext(ctx, s.programs.Of(s.variant.program()), command...)
	cmd.Env, cmd.Dir = environment(), t.Folder
	return cmd
}

// URL is that of the HTTP endpoint of the last process.
func (s *Streamer) URL() string { return "http://" + s.address }

// Command writes the configuration and runs `streamer setup`.
func (s *Streamer) Command(ctx context.Context, t Task) (*exec.Cmd, error) {
	ports, err := testserver.FreePorts(1)
	if err != nil {
		return nil, err
	}
	s.address = "127.0.0.1:" + strconv.Itoa(ports[0])
	text, err := json.MarshalIndent(streamerConfiguration(t, s.address), "", "  ") // JSON is YAML
	if err != nil {
		return nil, fmt.Errorf("configuration of the streamer: %w", err)
	}
	if err := os.WriteFile(filepath.Join(t.Folder, "streamer.yaml"), text, 0o600); err != nil {
		return nil, fmt.Errorf("configuration of the streamer: %w", err)
	}
	if err := run(s.command(ctx, t, "setup", "--topic", strings.Join(t.Topics, ","))); err != nil {
		return nil, fmt.Errorf("streamer setup: %w", err)
	}
	return s.command(context.WithoutCancel(ctx), t, "run"), nil
}

func streamerConfiguration(t Task, address string) map[string]any {
	return map[string]any{
		"postgres":    map[string]any{"dsn": t.DSN, "slot": t.Slot, "publication": t.Publication},
		"outbox":      map[string]any{"table": "public.outbox"},
		"cloudevents": map[string]any{"source": "/bench"},
		"kafka":       map[string]any{"brokers": t.Brokers, "topic": t.Prefix + "{aggregate_type}"},
		"http":        map[string]any{"listen": address},
		"log":         map[string]any{"format": "text"},
	}
}

// verdict is the part of the summary of `streamer verify --json` that is used.
type verdict struct {
	Summary *struct {
		Rows      int64            `json:"rows"`
		Published int64            `json:"published"`
		InFlight  int64            `json:"in_flight"`
		Findings  map[string]int64 `json:"findings"`
	} `json:"summary"`
}

// Verify runs `streamer verify`.
func (s *Streamer) Verify(ctx context.Context, t Task) (string, error) {
	cmd := s.command(ctx, t, "verify", "--strict", "--json", "--limit", "1")
	text, err := output(cmd)
	if err != nil {
		return "", fmt.Errorf("streamer verify: %w", err)
	}
	return readVerdict(text, t.Rows)
}

// readVerdict finds the summary, which is the last line, and compares the
// number of rows with what the harness wrote; 0 is unknown.
func readVerdict(text string, rows int64) (string, error) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	var v verdict
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &v); err != nil || v.Summary == nil {
		return "", fmt.Errorf("streamer verify: no summary in %q", lines[len(lines)-1])
	}
	if v.Summary.Published != v.Summary.Rows || rows > 0 && v.Summary.Rows != rows {
		return "", fmt.Errorf("streamer verify: %d rows written, %d found, %d published", rows, v.Summary.Rows, v.Summary.Published)
	}
	return fmt.Sprintf("%d rows, all published, no findings", v.Summary.Rows), nil
}

// Allocations reads the counter of Go's runtime from the endpoint.
func (s *Streamer) Allocations(ctx context.Context, _ Task) (int64, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.address+"/metrics", http.NoBody)
	if err != nil {
		return 0, fmt.Errorf("allocations: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return 0, fmt.Errorf("allocations: %w", err)
	}
	defer response.Body.Close()
	return readCounter(response.Body, "go_memstats_mallocs_total")
}

var errNoCounter = errors.New("counter not among the metrics")
